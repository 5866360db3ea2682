"""Holding test and public rows out of one file's samples, by seed or by whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError, nearest

__all__ = ["HoldOut"]


class HoldOut:
    """Takes test and public rows out of a file's training arrays."""

    def __init__(self, path: str | Path, arrays: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        self._path, self._arrays, self._rng = path, arrays, rng
        self._row_N = np.arange(len(arrays["x"]))  # rows that still train
        self._group_N = self._groups()

    def _groups(self) -> NDArray[Any] | None:
        if "group" not in self._arrays:
            return None
        group_N = self._arrays["group"]
        if group_N.shape != self._row_N.shape or group_N.dtype.kind not in "iuU":
            raise DataError(
                f"{self._path}: group: got {group_N.dtype} {group_N.shape}, expected whole numbers or text "
                f"{self._row_N.shape}, one a sample"
            )
        return group_N if group_N.dtype.kind == "U" else group_N.astype(np.int64)

    def hold_out(
        self,
        part: str,
        given: bool,
        groups: Sequence[int | str] | None,
        fraction: float | None,
        default: float | None,
    ) -> None:
        """Move rows from training to `part`, unless the file gave it or nobody asked."""
        if sum((given, groups is not None, fraction is not None)) > 1:
            raise DataError(f"{self._path}: give one of {part}_x, {part}_groups and {part}_fraction")
        if given:
            return
        if groups is not None:
            row_N = self._rows_of_groups(part, groups)
        else:
            fraction = default if fraction is None else fraction
            if fraction is None:
                return
            row_N = self._rows_of_fraction(part, fraction)
        self._row_N = np.setdiff1d(self._row_N, row_N)
        if len(self._row_N) == 0:
            raise DataError(f"{self._path}: nothing is left to train on after the {part} data; hold out less")
        self._arrays[f"{part}_x"], self._arrays[f"{part}_y"] = self._arrays["x"][row_N], self._arrays["y"][row_N]

    def _rows_of_groups(self, part: str, groups: Sequence[int | str]) -> NDArray[np.int64]:
        if self._group_N is None:
            raise DataError(f"{self._path}: {part}_groups needs group, the name of an array with one group a sample")
        left_N = self._group_N[self._row_N]
        known = set(left_N.tolist())
        for group in groups:
            if group not in known:
                names = [str(k) for k in sorted(known)]
                raise DataError(
                    f"{self._path}: {part}_groups: no samples of {group!r}{nearest(str(group), names)}; there are "
                    f"{', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"
                )
        return self._row_N[np.isin(left_N, np.asarray(list(groups), dtype=left_N.dtype))]

    def _rows_of_fraction(self, part: str, fraction: float) -> NDArray[np.int64]:
        if not 0 < fraction < 1:
            raise DataError(f"{self._path}: {part}_fraction: got {fraction}, expected a number between 0 and 1")
        wanted = max(1, round(fraction * len(self._arrays["x"])))
        if self._group_N is None:
            return np.sort(self._rng.permutation(self._row_N)[:wanted])
        left_N = self._group_N[self._row_N]
        names, counts = np.unique(left_N, return_counts=True)
        order = self._rng.permutation(len(names))
        # whole groups, as many as come nearest to the wanted number of rows, and at least one
        total = np.cumsum(counts[order])
        take = 1 + int(np.argmin(np.abs(total - wanted)))
        return self._row_N[np.isin(left_N, names[order[:take]])]

    def parts(self) -> dict[str, Any]:
        """The array fields of a `Dataset`."""
        a = self._arrays
        return {
            "train_x": a["x"][self._row_N],
            "train_y": a["y"][self._row_N],
            "test_x": a["test_x"],
            "test_y": a["test_y"],
            "public_x": a.get("public_x"),
            "group_N": None if self._group_N is None else self._group_N[self._row_N],
        }
