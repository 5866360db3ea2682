"""A share of a data set's arrays, as a data source of a cell's configuration. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.datasets import Dataset, npz
from fedagg_edge.errors import DataError
from fedagg_edge.npz import channel_first, read_npz
from fedagg_edge.seeds import stream

__all__ = ["drawn", "load", "open_samples"]


def load(
    path: str, *, arrays: Mapping[str, str], classes: int, share: float, test: int, seed: int, validation: int = 0
) -> Dataset:
    """The data set in the .npz at `path`, `arrays` naming its x, y, test_x and test_y, cut to a `share` of its training
    rows and to `test` test rows (0: all of them), both drawn with `seed`, every class in proportion.

    `validation` training rows are drawn first, and no device has them: of a whole share the rest is left.
    Raises DataError if the file or its arrays are not usable or hold fewer rows.
    """
    x, y, test_x, test_y = (arrays[name] for name in ("x", "y", "test_x", "test_y"))
    whole = npz(path, x=x, y=y, test_x=test_x, test_y=test_y, classes=classes)
    if test > len(whole.test_y):
        raise DataError(f"{path}: got --test {test}, expected at most {len(whole.test_y)}, the test rows it has")
    count = len(whole.train_y)
    if validation >= count:
        raise DataError(f"{path}: got --validation {validation}, expected fewer than its {count} training rows")
    held = drawn(whole.train_y, validation, seed, "validation")
    left = np.setdiff1d(np.arange(count), held)
    rows = left[drawn(whole.train_y[left], min(round(share * count), len(left)), seed, "train")]
    test_rows = drawn(whole.test_y, test or len(whole.test_y), seed, "test")
    return replace(
        whole,
        train_x=whole.train_x[rows],
        train_y=whole.train_y[rows],
        test_x=whole.test_x[test_rows],
        test_y=whole.test_y[test_rows],
        validation_x=whole.train_x[held] if validation else None,
        validation_y=whole.train_y[held] if validation else None,
    )


def drawn(label_N: NDArray[np.int64], count: int, seed: int, part: str) -> NDArray[np.int64]:
    """`count` ascending row numbers, drawn so that every class keeps its share to within one row."""
    order = stream(seed, "reproduce", part).permutation(len(label_N))
    by_class = order[np.argsort(label_N[order], kind="stable")]
    # every len/count-th row of the classes laid end to end
    return np.sort(by_class[np.arange(count) * len(label_N) // max(1, count)]).astype(np.int64)


def open_samples(path: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The file's `public_x` [N, C, H, W], which autoencoders train on; raise DataError if it has none."""
    public_x = read_npz(path, {"open data": "public_x"})["open data"]
    return channel_first(public_x, "auto", f"{path}: public_x")
