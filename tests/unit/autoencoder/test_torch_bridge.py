"""Networks out of artefacts: tensors must fit, chunks must not show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from autoencoder.making import make_artefact

from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.autoencoder.layout import UINT8_AFFINE, CodeLayout
from fedagg_edge.autoencoder.torch_bridge import TorchCodec, network_of
from fedagg_edge.errors import ArtefactError


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12), (5, 24)])
def test_an_embedding_does_not_depend_on_its_company(shape: tuple[int, ...]) -> None:
    codec = TorchCodec(make_artefact(shape, 3))
    x_N = np.random.default_rng(0).random((150, *shape), np.float32)
    z_ND = codec.encode(x_N)
    assert z_ND.dtype == np.float32
    for rows in ([7], [149, 3, 70], list(range(64)), list(range(149, -1, -1))):
        np.testing.assert_array_equal(codec.encode(x_N[rows]), z_ND[rows])


def test_decoding_agrees_across_batch_sizes(artefact: Artefact) -> None:
    codec = TorchCodec(artefact)
    z_ND = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
    whole_N = codec.decode(z_ND)
    np.testing.assert_allclose(
        np.concatenate([codec.decode(z_ND[i : i + 8]) for i in range(0, 150, 8)]), whole_N, atol=1e-6
    )


def test_it_computes_what_the_network_computes(artefact: Artefact) -> None:
    codec, network = TorchCodec(artefact), network_of(artefact)
    x_N = np.random.default_rng(0).random((70, 1, 8, 8), np.float32)
    with torch.inference_mode():
        z_N = network.encoder(torch.from_numpy(x_N))
        y_N = network.decoder(z_N).clamp(0, 1)
    np.testing.assert_allclose(codec.encode(x_N), z_N.flatten(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(codec.decode(codec.encode(x_N)), y_N.numpy(), atol=1e-5)


def test_no_rows_are_no_rows(artefact: Artefact) -> None:
    codec = TorchCodec(artefact)
    assert codec.encode(np.empty((0, 1, 8, 8), np.float32)).shape == (0, 8)
    assert codec.decode(np.empty((0, 8), np.float32)).shape == (0, 1, 8, 8)


def test_the_network_is_frozen_and_its_own(artefact: Artefact) -> None:
    network = network_of(artefact)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    name, value = next(iter(artefact.tensors.items()))
    before = value.copy()
    network.state_dict()[name].add_(1)
    np.testing.assert_array_equal(artefact.tensors[name], before)


def test_tensors_that_do_not_fit_are_named() -> None:
    tensors = dict(make_artefact().tensors)
    bias = tensors.pop("encoder.transform.bias")
    with pytest.raises(ArtefactError, match=r"'encoder\.transform\.bias' is missing"):
        network_of(make_artefact(tensors=tensors))
    with pytest.raises(ArtefactError, match=r"'encoder\.other' is not part"):
        network_of(make_artefact(tensors=tensors | {"encoder.transform.bias": bias, "encoder.other": bias}))
    with pytest.raises(ArtefactError, match=r"got shape \(4,\), expected \(2,\)"):
        network_of(make_artefact(tensors=tensors | {"encoder.transform.bias": np.zeros(4, np.float32)}))


def test_a_layout_of_another_shape_is_refused() -> None:
    layout = CodeLayout(UINT8_AFFINE, (2, 4, 4), np.zeros(2, np.float32), np.ones(2, np.float32))
    with pytest.raises(ArtefactError, match=r"the network makes \(2, 2, 2\)"):
        network_of(make_artefact(layout=layout))
