"""Where a device's private samples come from while it lives: a folder that grows, or a user's function.

A source hands out parcels, each with a key; a parcel is taken once, whole, and never again, whatever happens between.
Nothing here encodes or sends: `agent.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import plugins
from fedagg_edge.config import DataConfig
from fedagg_edge.errors import ConfigError, DataError, FedaggError, nearest

__all__ = ["FolderSource", "FunctionSource", "Parcel", "Source", "open_source"]

Seen = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Raw samples that belong together: `x_N` [N, ...] in the sensor's own units, `y_N` int64 [N]."""

    key: str
    x_N: NDArray[Any]
    y_N: NDArray[np.int64]

    def __repr__(self) -> str:  # counts, never content
        return f"Parcel(key={self.key!r}, count={len(self.y_N)})"


class Source(Protocol):
    """What a device asks again and again."""

    def poll(self, seen: Seen) -> Iterator[Parcel | DataError]:
        """Parcels whose key `seen` does not know yet. What cannot be read comes as an error, and the rest follows."""


class FolderSource:
    """A folder of files, each a parcel named by its path below the folder; files may only be added, whole (write
    ``name.tmp``, then rename). Names that start with a dot or end in .tmp or .part are not looked at.

    Where the labels come from: a ``.npz`` holds arrays `x` and `y`; a ``.npy`` (one sample, or several along the first
    axis, told by `sample_ndim`) has its class from `label`, a function (path, x_N) -> labels, or from the name of its
    folder: one of `classes`, in their order, or a number.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sample_ndim: int,
        classes: tuple[str, ...] = (),
        label: Callable[[str, NDArray[Any]], Any] | None = None,
    ) -> None:
        self._folder, self._ndim, self._classes, self._label = folder, sample_ndim, classes, label

    def poll(self, seen: Seen) -> Iterator[Parcel | DataError]:
        """See `Source.poll`."""
        if not self._folder.is_dir():
            yield DataError(f"{self._folder}: no such folder; make it, or correct data.options.path")
            return
        for path in sorted(self._folder.rglob("*.np[yz]")):
            key = path.relative_to(self._folder).as_posix()
            if any(part.startswith(".") for part in Path(key).parts):
                continue
            if not _is_text(key):
                yield DataError(f"{path.parent}: the name of {path.name!a} is not UTF-8; rename the file")
                continue
            if seen(key):
                continue
            try:
                yield self._parcel_of(path, key)
            except (OSError, ValueError, KeyError) as e:
                yield e if isinstance(e, DataError) else DataError(f"{path}: cannot be read: {e}")

    def _parcel_of(self, path: Path, key: str) -> Parcel:
        try:
            x_N, y_N = _arrays(path)
        except FedaggError:
            raise
        except Exception as e:  # of a damaged file: zlib.error, TokenError, BadZipFile, EOFError, ...
            raise DataError(f"{path}: cannot be read: {e}") from e
        if y_N is not None:
            return _parcel(key, x_N, y_N, str(path))
        if x_N.ndim == self._ndim:
            x_N = x_N[None]
        if self._label is not None:
            try:
                y_N = np.broadcast_to(np.asarray(self._label(key, x_N)), (len(x_N),))
            except Exception as e:  # a user's code may raise anything, the sample in its text
                raise DataError(f"{path}: data.options.label raised {type(e).__name__}") from e
            return _parcel(key, x_N, y_N, str(path))
        return _parcel(key, x_N, np.full(len(x_N), self._class_of(path)), str(path))

    def _class_of(self, path: Path) -> int:
        name = path.parent.name
        if name in self._classes:
            return self._classes.index(name)
        if not self._classes and name.isdecimal():
            return int(name)
        known = self._classes or ("0", "1")
        raise DataError(
            f"{path}: its folder is no class{nearest(name, known)}; put it into one of {', '.join(known)}, "
            "or set data.options.classes or .label"
        )


class FunctionSource:
    """A user's function, called at each poll as ``function(**options)``; it returns or yields (key, x_N, y_N)."""

    def __init__(self, function: Callable[..., Iterable[Any]], options: Mapping[str, Any], what: str) -> None:
        self._function, self._options, self._what = function, dict(options), what

    def _given(self) -> Iterator[Any]:
        """What the function gives, and the error that it ends with, if one: what is left comes with a later poll."""
        try:
            yield from plugins.call(self._function, self._what, self._options)
        except FedaggError:
            raise
        except Exception as e:  # a user's code may raise anything
            error = DataError(f"{self._what}: raised {type(e).__name__}")
            error.__cause__ = e
            yield error

    def poll(self, seen: Seen) -> Iterator[Parcel | DataError]:
        """See `Source.poll`."""
        for item in self._given():
            if isinstance(item, DataError):
                yield item
                return
            try:
                key, x_N, y_N = item
            except (TypeError, ValueError):
                raise DataError(f"{self._what}: got {type(item).__name__}, expected (key, x, y)") from None
            if seen(str(key)):
                continue
            try:
                yield _parcel(str(key), np.asarray(x_N), np.asarray(y_N), f"{self._what} {key!r}")
            except ValueError as e:  # numpy's, of what is ragged, or ours
                yield e if isinstance(e, DataError) else DataError(f"{self._what} {key!r}: no array: {e}")


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """What a file holds: samples, and in a .npz their labels."""
    with path.open("rb") as f:  # ours to close: numpy leaves a damaged .npz open
        if path.suffix != ".npz":
            return np.load(f, allow_pickle=False), None
        with np.load(f, allow_pickle=False) as arrays:
            if {"x", "y"} - set(arrays.files):
                raise DataError(f"{path}: got arrays {', '.join(arrays.files)}, expected x and y")
            return arrays["x"], arrays["y"]


def _is_text(name: str) -> bool:
    """Whether the ledger can keep a file's name: one that is not UTF-8 has surrogates in it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parcel(key: str, x_N: NDArray[Any], y_N: NDArray[Any], where: str) -> Parcel:
    if y_N.ndim != 1 or len(x_N) != len(y_N) or not np.issubdtype(y_N.dtype, np.integer):
        raise DataError(
            f"{where}: got {len(x_N)} samples and {y_N.dtype} {y_N.shape} labels, expected one integer each"
        )
    return Parcel(key, x_N, y_N.astype(np.int64))


def open_source(config: DataConfig, sample_ndim: int, base_dir: str) -> Source:
    """The source that ``[data]`` names: ``folder`` with `path`, `classes`, `label`, or ``module:function``.

    Raises ConfigError for what is neither, or for unknown options.
    """
    if plugins.is_spec(config.source):
        return FunctionSource(
            plugins.load_object(config.source, base_dir), config.options, f"data.source {config.source!r}"
        )
    if config.source != "folder":
        raise ConfigError(f"data.source: got {config.source!r}, expected 'folder' or 'module:function'")
    known = ("path", "classes", "label")
    for key in config.options:
        if key not in known:
            raise ConfigError(f"data.options.{key}: unknown key{nearest(key, known)}; known: {', '.join(known)}")
    if "path" not in config.options:
        raise ConfigError("data.options.path: this key is missing; name the folder of private samples")
    path, classes, label = (config.options.get(key) for key in known)
    if not isinstance(path, str):
        raise ConfigError(f"data.options.path: got {path!r}, expected the name of a folder")
    if classes is not None and not isinstance(classes, list | tuple):  # of a text, each letter would be a class
        raise ConfigError(f"data.options.classes: got {classes!r}, expected a list of names of folders")
    if label is not None and not isinstance(label, str):
        raise ConfigError(f"data.options.label: got {label!r}, expected 'module:function'")
    return FolderSource(
        Path(base_dir) / path,
        sample_ndim=sample_ndim,
        classes=tuple(map(str, classes or ())),
        label=None if label is None else plugins.load_object(label, base_dir),
    )
