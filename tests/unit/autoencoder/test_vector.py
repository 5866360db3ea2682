"""The autoencoder of plain vectors, from the network to the bytes of an embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedagg_edge.autoencoder import networks
from fedagg_edge.autoencoder.artefact import MAX_PARAMETERS, dumps, loads
from fedagg_edge.autoencoder.quality import sample_mse
from fedagg_edge.autoencoder.train import train
from fedagg_edge.autoencoder.vector import ARCHITECTURE, VectorAutoencoder, default_embedding
from fedagg_edge.bridge import open_bridge
from fedagg_edge.errors import ArtefactError, DataError


def rank_three(count: int, seed: int) -> np.ndarray:
    """Rows of a table of 20 columns that three hidden numbers explain; the columns' scales differ a thousandfold."""
    mixing = np.random.default_rng(0).normal(size=(3, 20)) * np.logspace(-1, 2, 20)
    return (np.random.default_rng(seed).normal(size=(count, 3)) @ mixing).astype(np.float32)


@pytest.mark.parametrize(("features", "values"), [(3, 3), (10, 4), (30, 8), (256, 64), (512, 39)])
def test_default_embeddings_fit_the_limit(features: int, values: int) -> None:
    assert default_embedding(features) == values
    arguments = networks.default_arguments((features,))
    network = networks.build(ARCHITECTURE, (features,), arguments)
    assert sum(p.numel() for p in network.parameters()) < MAX_PARAMETERS
    assert network.encoder(torch.rand(2, features)).shape == (2, values)


def test_a_new_network_is_a_linear_autoencoder() -> None:
    network = VectorAutoencoder((12,), 4, 8)
    z_NE = torch.randn(5, 4)
    torch.testing.assert_close(network.decoder(z_NE), network.decoder.linear(z_NE) + 0.5)


def test_clipping_changes_nothing_inside() -> None:
    network = VectorAutoencoder((12,), 4, 8)
    z_NE = torch.randn(50, 4)
    torch.testing.assert_close(network.decoder.bounded(z_NE), network.decoder(z_NE).clamp(0, 1), atol=1e-6, rtol=0)


def test_a_table_of_few_causes_survives_its_embedding() -> None:
    """Four bytes hold what explains twenty columns of other rows than those trained on."""
    artefact = train(rank_three(400, 1), embedding_channels=4, epochs=200, seed=3)
    assert artefact.architecture == ARCHITECTURE
    assert artefact.embedding_bytes == 4
    bridge = open_bridge(loads(dumps(artefact)))
    x_N = bridge.scale(rank_three(200, 2))
    error = sample_mse(x_N, bridge.decode(bridge.encode(x_N))).mean()
    assert error < 0.05 * x_N.var(axis=0).mean()


def test_the_order_of_features_means_nothing_in_training() -> None:
    """No mirroring, shifting or pasting: a column that is always 1 beside one that is always 0 stays so."""
    open_x = np.tile(np.array([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], np.float32), (64, 1))
    open_x[:, 3] = np.linspace(0, 1, 64)
    artefact = train(open_x, input_low=0, input_high=1, epochs=400, seed=0)
    bridge = open_bridge(artefact)
    np.testing.assert_allclose(bridge.decode(bridge.encode(open_x)), open_x, atol=0.1)


def test_what_vectors_cannot_have_is_refused() -> None:
    with pytest.raises(DataError, match="got vectors of 20 features, which have no axis"):
        train(rank_three(40, 1), preset="open")
    with pytest.raises(DataError, match="got 9000 features and 4 embedding values, which cannot stay under"):
        networks.default_arguments((9000,))
    with pytest.raises(ArtefactError, match=r"got samples of shape \(1, 8, 8\) for 'linear-residual'"):
        networks.build(ARCHITECTURE, (1, 8, 8), {"embedding_channels": 4, "width": 8})
    with pytest.raises(ArtefactError, match=r"got samples of shape \(8,\) for 'lapped-residual'"):
        networks.build(networks.ARCHITECTURE, (8,), {"embedding_channels": 4, "width": 8, "blocks": 1})
