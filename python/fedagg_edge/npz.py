"""Reading arrays from .npz files and bringing them into the channel-first layout. Never unpickles anything."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError, nearest

__all__ = ["LAYOUTS", "MAX_BYTES", "channel_first", "read_npz"]

MAX_BYTES = 16 << 30
"""The most a file's arrays may unpack to; a small file that unpacks to more is a mistake or an attack."""

# layout -> (dimensions with the batch, order of the axes that makes it channel-first; None: add a channel axis)
_AXES: Mapping[str, tuple[int, tuple[int, ...] | None]] = {
    "NCHW": (4, (0, 1, 2, 3)),
    "NHWC": (4, (0, 3, 1, 2)),
    "NHW": (3, None),
    "NCL": (3, (0, 1, 2)),
    "NLC": (3, (0, 2, 1)),
    "NF": (2, (0, 1)),
}
LAYOUTS = ("auto", *_AXES)


def read_npz(path: str | Path, keys: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Return {argument: array} for the {argument: key} of `keys`, read from the .npz file at `path`.

    Raises DataError naming the file if it is missing, no .npz, corrupt, too large, lacks a key (the nearest one is
    named) or holds Python objects.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file; data files are .npz, as numpy.savez writes them")
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file}: not an .npz file (no zip directory), or cut short; write it with numpy.savez")
    try:
        # opened here, as numpy leaves its own handle open when a zip is damaged
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            _check_members(file, archive.zip, archive.files, keys)
            return {argument: _member(file, archive, key) for argument, key in keys.items()}
    except DataError:
        raise
    except Exception as error:  # zip, zlib and numpy each have their own way to say that bytes are wrong
        raise DataError(f"{file}: corrupt or not readable: {type(error).__name__}: {error}") from error


def _check_members(file: Path, archive: Any, names: list[str], keys: Mapping[str, str]) -> None:
    for argument, key in keys.items():
        if key not in names:
            raise DataError(
                f"{file}: no array {key!r} (argument {argument!r}){nearest(key, names)}; "
                f"it holds {', '.join(names) or 'nothing'}"
            )
    size = sum(info.file_size for info in archive.infolist())
    if size > MAX_BYTES:
        raise DataError(f"{file}: unpacks to {size:,} bytes, expected at most {MAX_BYTES:,}; store fewer samples")


def _member(file: Path, archive: Any, key: str) -> NDArray[Any]:
    try:
        array = archive[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{file}: array {key!r} holds Python objects, which are never unpickled; save it with a numeric dtype"
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file}: {key!r} is no array; write the file with numpy.savez")
    return array


def channel_first(x: NDArray[Any], layout: str, what: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return `x` as contiguous (N, C, H, W), (N, C, L) or (N, F), uint8 as it is and every other number as float32.

    `layout` is one of `LAYOUTS`; ``auto`` takes images by an axis of 1 or 3 channels and windows by the longer axis
    being time, and raises DataError, as for a layout that does not fit, where that does not decide. `what` names the
    array in errors.
    """
    if layout not in LAYOUTS:
        raise DataError(
            f"{what}: got layout {layout!r}{nearest(layout, LAYOUTS)}, expected one of {', '.join(LAYOUTS)}"
        )
    ndim, axes = _AXES[_guess(x, what) if layout == "auto" else layout]
    if x.ndim != ndim:
        raise DataError(f"{what}: got shape {x.shape}, expected {ndim} dimensions for layout {layout!r}")
    if x.dtype != np.uint8:
        x = _float32(x, what)
    return np.ascontiguousarray(x[:, None] if axes is None else x.transpose(axes))


def _float32(x: NDArray[Any], what: str) -> NDArray[np.float32]:
    if x.dtype.kind not in "iuf":
        raise DataError(f"{what}: got dtype {x.dtype}, expected uint8, another integer type or a float type")
    with np.errstate(over="ignore"):  # becomes infinite, which the data set's own check names
        return x.astype(np.float32)


def _guess(x: NDArray[Any], what: str) -> str:
    if x.ndim == 4:
        first, last = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
        if first != last:
            return "NCHW" if first else "NHWC"
    elif x.ndim == 2:
        return "NF"
    elif x.ndim == 3 and x.shape[1] != x.shape[2]:
        return "NLC" if x.shape[1] > x.shape[2] else "NCL"
    elif x.ndim != 3:
        raise DataError(
            f"{what}: got shape {x.shape}, expected images (N, H, W, C), sensor windows (N, length, channels) or "
            "vectors (N, features)"
        )
    raise DataError(f"{what}: shape {x.shape} does not tell its layout; give layout = one of {', '.join(_AXES)}")
