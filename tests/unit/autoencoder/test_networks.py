"""Shapes, the parameter limit, and that every channel lives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedagg_edge.autoencoder import networks
from fedagg_edge.autoencoder.artefact import MAX_PARAMETERS
from fedagg_edge.errors import ArtefactError, DataError

sizes = st.integers(1, 8).map(lambda n: 4 * n)
images = st.tuples(st.sampled_from([1, 3]), sizes, sizes)
windows = st.tuples(st.integers(1, 12), sizes)


def built(sample_shape: tuple[int, ...], embedding_channels: int | None = None) -> networks.Autoencoder:
    torch.manual_seed(0)
    arguments = networks.default_arguments(sample_shape, embedding_channels)
    return networks.build(networks.ARCHITECTURE, sample_shape, arguments)


@settings(max_examples=40)
@given(images | windows, st.none() | st.integers(1, 24))
def test_every_shape_round_trips_under_the_limit(shape: tuple[int, ...], channels: int | None) -> None:
    network = built(shape, channels)
    assert sum(p.numel() for p in network.parameters()) < MAX_PARAMETERS
    x = torch.rand(2, *shape)
    z = network.encoder(x)
    embedding_channels = networks.default_arguments(shape, channels)["embedding_channels"]
    assert tuple(z.shape[1:]) == networks.embedding_shape_of(shape, embedding_channels)
    assert network(x).shape == x.shape
    bounded = network.decoder.bounded(100 * z)
    assert bounded.min() >= 0
    assert bounded.max() <= 1


@pytest.mark.parametrize(
    ("shape", "embedding_bytes"), [((3, 32, 32), 256), ((1, 8, 8), 32), ((1, 28, 28), 196), ((6, 128), 192)]
)
def test_default_embeddings(shape: tuple[int, ...], embedding_bytes: int) -> None:
    channels = networks.default_arguments(shape)["embedding_channels"]
    assert math.prod(networks.embedding_shape_of(shape, channels)) == embedding_bytes


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (6, 128)])
def test_every_parameter_and_embedding_channel_is_alive(shape: tuple[int, ...]) -> None:
    network = built(shape)
    x = torch.rand(8, *shape)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for _ in range(2):  # the first step moves the zero weights that hide others' gradients
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(x), x).backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.flatten(1 if parameter.ndim > 1 else 0).abs().amax(-1).min() > 0, name
    z = network.encoder(x)
    assert z.transpose(0, 1).flatten(1).std(1).min() > 0


def test_the_window_shuffle_is_the_image_shuffle_along_one_axis() -> None:
    decoder = built((2, 16)).decoder
    y = decoder._shuffle(torch.arange(24.0).reshape(1, 8, 3))
    torch.testing.assert_close(y[0, 0], torch.arange(24.0).reshape(8, 3)[:4].T.flatten())
    torch.testing.assert_close(y[0, 1], torch.arange(24.0).reshape(8, 3)[4:].T.flatten())


def test_clipping_changes_nothing_inside() -> None:
    network = built((1, 8, 8))
    z = 0.1 * torch.randn(4, 8, 2, 2)
    torch.testing.assert_close(network.decoder.bounded(z), network.decoder(z).clamp(0, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((3, 30, 32), 4, "divisible by 4"),
        ((2, 32, 32), 4, "got images of 2 channels"),
        ((6, 126), 4, "divisible by 4"),
        ((), 4, "expected"),
        ((1, 4, 4, 4), 4, "expected"),
        ((1, 0, 4), 4, "expected"),
        ((1, 8, 8), 0, "got 0 embedding channels"),
        ((3, 32, 32), 200, "under 50000 parameters; use fewer"),
        ((500, 128), 500, "under 50000 parameters; use fewer"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape: tuple[int, ...], channels: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        networks.default_arguments(shape, channels)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lapped-residul", {"embedding_channels": 4, "width": 8, "blocks": 1}, "did you mean 'lapped-residual'"),
        ("lapped-residual", {"embedding_channels": 4, "width": 8}, "each 1 to 1024"),
        ("lapped-residual", {"embedding_channels": 4, "width": 8, "blocks": 0}, "each 1 to 1024"),
        ("lapped-residual", {"embedding_channels": 4, "width": 8, "blocks": 40_000}, "each 1 to 1024"),
        ("lapped-residual", {"embedding_channels": 4, "width": 1000, "blocks": 1}, "fewer than 50000"),
    ],
)
def test_a_file_cannot_ask_for_a_foreign_or_huge_network(name: str, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        networks.build(name, (1, 8, 8), arguments)
