"""Random views of bridge samples, so that a node does not see the same few samples in every round.

A view is named by the seed that travels with the knowledge (`Knowledge.view_seed`), and row i of a sample set has the
same view for the teacher and the student, so their logits can be compared. NumPy alone: the same on every machine.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError

__all__ = ["Views", "draw_views", "look"]

Views = Literal["plain", "mirror", "shift", "mirror+shift"]

_REACH = 8  # a shift goes up to one part in so many of an axis, at least one position


def draw_views(kind: Views, seed: int, count: int, sample_shape: tuple[int, ...]) -> NDArray[np.int16] | None:
    """How each of `count` rows is seen: int16 [N, 1 + A] over the A axes after the channels; None for plain views.

    Column 0 is 1 where the row is mirrored along its last axis (half of them), the others say by how many positions it
    is shifted along each axis. `seed` 0 is the plain view, whatever `kind` says.
    Raises DataError for other views of vectors (F,).
    """
    if kind == "plain" or seed == 0:
        return None
    if len(sample_shape) == 1:
        raise DataError(f'bridge_views: got {kind!r} for vectors, which have no axis to mirror or shift; use "plain"')
    rng = np.random.Generator(np.random.PCG64(seed))
    view_NA = np.zeros((count, len(sample_shape)), np.int16)
    # both are drawn whatever is used of them: a kind's shifts are those of every kind
    mirrored_N = rng.integers(0, 2, count)
    for axis, size in enumerate(sample_shape[1:], 1):
        reach = max(1, size // _REACH)
        shift_N = rng.integers(-reach, reach, count, endpoint=True)
        if "shift" in kind:
            view_NA[:, axis] = shift_N
    if "mirror" in kind:
        view_NA[:, 0] = mirrored_N
    return view_NA


def look(x_N: NDArray[np.float32], view_NA: NDArray[np.int16]) -> NDArray[np.float32]:
    """The samples float32 [N, C, ...] as `view_NA` sees them: mirrored, then shifted; what enters is 0."""
    out_N = np.zeros(x_N.shape, np.float32)
    for x, out, (mirrored, *shift) in zip(x_N, out_N, view_NA.tolist(), strict=True):
        pairs = [_overlap(by, size) for by, size in zip(shift, x.shape[1:], strict=True)]
        to = (slice(None), *(pair[0] for pair in pairs))
        since = (slice(None), *(pair[1] for pair in pairs))
        out[to] = (x[..., ::-1] if mirrored else x)[since]
    return out_N


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """The part of an axis that a shift fills, and the part that it comes from."""
    part = max(0, size - abs(by))
    to = min(max(by, 0), size)
    since = min(max(-by, 0), size)
    return slice(to, to + part), slice(since, since + part)
