"""The transform is orthonormal and ordered, bits go where they help most, levels are Lloyd's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fedagg_edge.autoencoder import networks, separable


def smooth(count: int, shape: tuple[int, ...]) -> torch.Tensor:
    x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    for axis in range(2, x.ndim):
        x = x.cumsum(axis)
    return (x - x.min()) / (x.max() - x.min())


def fitted(shape: tuple[int, ...], x: torch.Tensor) -> separable.SeparableAutoencoder:
    network = networks.build(networks.SEPARABLE, shape, networks.separable_arguments(shape))
    assert isinstance(network, separable.SeparableAutoencoder)
    separable.fit_transform(network, x)
    return network


@pytest.mark.parametrize("shape", [(3, 8, 12), (1, 8, 8), (4, 16)])
def test_the_transform_loses_nothing_and_keeps_distances(shape: tuple[int, ...]) -> None:
    x = smooth(60, shape)
    network = fitted(shape, x)
    with torch.no_grad():
        z = network.encoder(x)
        torch.testing.assert_close(network.decoder.linear(z), x, atol=1e-5, rtol=0)
        torch.testing.assert_close(network.decoder(z), x, atol=1e-5, rtol=0)  # the filter starts as the identity
    torch.testing.assert_close((z[0] - z[1]).norm(), (x[0] - x[1]).norm(), atol=1e-4, rtol=0)


def test_the_strongest_coefficients_come_first() -> None:
    x = smooth(200, (1, 8, 8))
    with torch.no_grad():
        z = fitted((1, 8, 8), x).encoder(x)
    energy = z.square().mean((0, 1)).numpy()
    assert (np.diff(energy.sum(1)) <= 1e-6).all()
    assert (np.diff(energy.sum(0)) <= 1e-6).all()


def test_a_folded_sample_unfolds() -> None:
    for shape in ((2, 3, 8, 12), (2, 3, 8)):
        x = torch.rand(shape)
        assert separable.fold(x, 4).shape[2:] == torch.Size(s // 4 for s in shape[2:])
        torch.testing.assert_close(separable.unfold(separable.fold(x, 4), 4), x, atol=0, rtol=0)


def test_greedy_bits_are_the_best_of_all_allocations() -> None:
    variance_D, budget = np.array([9.0, 2.0, 1.0, 0.1]), 6
    share = separable._ERROR_SHARE

    def error(bits: tuple[int, ...]) -> float:
        return float(sum(v * share[b] for v, b in zip(variance_D, bits, strict=True)))

    every = [b for b in itertools.product(range(7), repeat=4) if sum(b) == budget]
    found = separable.allocate_bits(variance_D, budget)
    assert error(tuple(found.tolist())) == pytest.approx(min(map(error, every)))


def test_equal_bits_go_to_the_strongest_and_no_value_gets_more_than_eight() -> None:
    variance_D = np.array([1.0, 5.0, 3.0, 4.0])
    assert separable.allocate_bits(variance_D, 5, bits=2).tolist() == [0, 2, 0, 2]
    assert separable.allocate_bits(variance_D, 100, bits=1).tolist() == [1, 1, 1, 1]
    assert separable.allocate_bits(variance_D, 100).tolist() == [8, 8, 8, 8]


def test_levels_of_a_normal_variable_are_the_known_ones() -> None:
    """Max, IRE Transactions on Information Theory 6(1), 1960, table 1: 2 levels at 0.798, 4 at 0.453 and 1.510."""
    value_M = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    np.testing.assert_allclose(separable.lloyd(value_M, 1), [-0.798, 0.798], atol=0.01)
    np.testing.assert_allclose(separable.lloyd(value_M, 2), [-1.510, -0.453, 0.453, 1.510], atol=0.02)


def test_the_code_fits_into_its_bytes() -> None:
    x = smooth(100, (3, 8, 8))
    network = fitted((3, 8, 8), x)
    for bits in (0, 1, 2):
        layout = separable.fit_layout(network, x, 32, bits)
        assert layout.sample_bytes <= 32
        assert layout.embedding_shape == (3, 8, 8)
