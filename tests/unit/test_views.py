import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import DataError
from fedagg_edge.views import draw_views, look


def by_hand(x, view):
    """One sample, position by position."""
    mirrored, *shift = view
    x = np.flip(x, -1) if mirrored else x
    out = np.zeros_like(x)
    for at in np.ndindex(*x.shape[1:]):
        source = tuple(i - s for i, s in zip(at, shift, strict=True))
        if all(0 <= i < n for i, n in zip(source, x.shape[1:], strict=True)):
            out[(slice(None), *at)] = x[(slice(None), *source)]
    return out


@given(st.sampled_from([(2, 9), (1, 4, 5), (3, 16, 8)]), st.integers(0, 6), st.integers(1, 2**63 - 1))
def test_a_look_is_what_each_row_says(shape, count, seed):
    x_N = np.random.default_rng(0).random((count, *shape), np.float32)
    view_NA = draw_views("mirror+shift", seed, count, shape)
    got_N = look(x_N, view_NA)
    assert got_N.dtype == np.float32
    for x, view, got in zip(x_N, view_NA, got_N, strict=True):
        np.testing.assert_array_equal(got, by_hand(x, view))


def test_views_are_named_by_their_seed():
    one, again, other = (draw_views("mirror+shift", seed, 50, (1, 8, 16)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert {*one[:, 0]} == {0, 1}
    assert {*one[:, 1]} == {-1, 0, 1}
    assert {*one[:, 2]} == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(("kind", "used"), [("mirror", [True, False, False]), ("shift", [False, True, True])])
def test_kinds(kind, used):
    view_NA = draw_views(kind, 5, 50, (1, 8, 16))
    assert view_NA.any(axis=0).tolist() == used
    both_NA = draw_views("mirror+shift", 5, 50, (1, 8, 16))
    np.testing.assert_array_equal(view_NA, np.where(used, both_NA, 0))


def test_the_plain_view_is_none():
    assert draw_views("plain", 5, 3, (1, 4, 4)) is None
    assert draw_views("shift", 0, 3, (1, 4, 4)) is None
    assert draw_views("plain", 5, 3, (30,)) is None


def test_vectors_have_no_other_view():
    with pytest.raises(DataError, match="got 'mirror' for vectors"):
        draw_views("mirror", 5, 3, (30,))
