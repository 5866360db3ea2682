"""Views of samples: what they may and may not change."""

from __future__ import annotations

import pytest
import torch

from fedagg_edge.autoencoder.augment import mirror, small_set_view

SHAPES = [(64, 3, 8, 8), (64, 2, 12)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_seed_decides_and_the_input_is_left_alone(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=rng(9))
    before = x.clone()
    for view in (mirror, small_set_view):
        torch.testing.assert_close(view(x, rng(1)), view(x, rng(1)), atol=0, rtol=0)
        assert not torch.equal(view(x, rng(1)), view(x, rng(2)))
        assert view(x, rng(1)).shape == x.shape
    torch.testing.assert_close(x, before, atol=0, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_view_holds_only_values_of_its_batch(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=rng(9))
    known = set(x.flatten().tolist()) | {0.0}
    assert set(small_set_view(x, rng()).flatten().tolist()) <= known


def test_mirroring_keeps_or_turns_whole_samples() -> None:
    x = torch.rand(200, 1, 4, 8, generator=rng(9))
    y = mirror(x, rng())
    kept = (y == x).flatten(1).all(1)
    turned = (y == x.flip(3)).flatten(1).all(1)
    assert bool((kept | turned).all())
    assert 60 < int(turned.sum()) < 140
