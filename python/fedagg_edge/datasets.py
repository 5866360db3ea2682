"""Labelled data for a simulated tree: what a data set is, and the sources it comes from.

A data set is raw: nothing is normalised here, so that private, bridge and test samples can share one scale later. Which
device holds which training sample is the business of `fedagg_edge.partition`. No torch.

Three sources: ``digits`` (inside scikit-learn), ``npz`` (arrays in a file), ``module:function`` (the user's own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import plugins
from fedagg_edge.errors import ConfigError, DataError, nearest
from fedagg_edge.holdout import HoldOut
from fedagg_edge.npz import channel_first, read_npz

__all__ = ["DataSource", "Dataset", "digits", "load_dataset", "npz"]

Samples = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dataset:
    """Samples and labels, checked on construction; raises DataError.

    A sample has shape (C, H, W), an image, (C, L), a sensor window, or (F,), a vector whose features are its channels.
    `train_x`, `test_x` and `public_x` are [N, *sample_shape], all uint8 or all float32. `train_y` and `test_y` are
    int64 [N], each in 0..classes-1. `public_x` is open, unlabelled data that no device holds, for the autoencoder; by
    default there is none.
    `validation_x` and `validation_y`, both or neither, are labelled samples that no device holds and no result is
    reported on: on them the view of the cloud's model is chosen.
    `group_N`, int64 or text, names the person or machine that each training row came from.
    `input_low` and `input_high` are each channel's natural range; uint8 without one means 0..255, float32 without one
    means that the range is to be measured.
    """

    name: str
    classes: int
    train_x: Samples
    train_y: NDArray[np.int64]
    test_x: Samples
    test_y: NDArray[np.int64]
    public_x: Samples | None = None
    validation_x: Samples | None = None
    validation_y: NDArray[np.int64] | None = None
    group_N: NDArray[np.int64] | NDArray[np.str_] | None = None
    class_names: tuple[str, ...] | None = None
    input_low: tuple[float, ...] | None = None
    input_high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.public_x is None:
            # no view: it would keep these training samples for whoever replaces them by a part of them
            object.__setattr__(self, "public_x", self.train_x[:0].copy())
        if self.classes < 2:
            raise DataError(f"{self.name}: got {self.classes} classes, expected 2 or more")
        for part in ("train_x", "test_x", "public_x"):
            self._check_samples(part, getattr(self, part))
        self._check_labels("train_y", self.train_y, len(self.train_x))
        self._check_labels("test_y", self.test_y, len(self.test_x))
        self._check_validation()
        self._check_groups()
        self._check_class_names()
        self._check_range()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W), (C, L) or (F,)."""
        return self.train_x.shape[1:]

    def _check_samples(self, part: str, x: Any) -> None:
        what = f"{self.name}: {part}"
        if not isinstance(x, np.ndarray) or x.dtype not in (np.uint8, np.float32):
            got = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise DataError(f"{what}: got {got}, expected a uint8 or float32 array; convert it with .astype")
        if x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
            raise DataError(
                f"{what}: got shape {x.shape}, expected (N, C, H, W) images, (N, C, L) windows or (N, F) vectors"
            )
        if x.shape[1:] != self.sample_shape or x.dtype != self.train_x.dtype:
            raise DataError(
                f"{what}: got {x.dtype} samples of shape {x.shape[1:]}, expected {self.train_x.dtype} of shape "
                f"{self.sample_shape} like train_x"
            )
        if len(x) == 0 and part != "public_x":
            raise DataError(f"{what}: got no samples, expected at least one")
        if x.dtype == np.float32 and not np.isfinite(x).all():
            row = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
            raise DataError(f"{what}: row {row} holds NaN or infinity, expected finite values; drop or repair it")

    def _check_labels(self, part: str, y: Any, count: int) -> None:
        what = f"{self.name}: {part}"
        if not isinstance(y, np.ndarray) or y.dtype != np.int64 or y.shape != (count,):
            got = f"{y.dtype} {y.shape}" if isinstance(y, np.ndarray) else type(y).__name__
            raise DataError(f"{what}: got {got}, expected int64 ({count},), one label a sample")
        wrong = np.flatnonzero((y < 0) | (y >= self.classes))
        if len(wrong):
            raise DataError(
                f"{what}: got label {y[wrong[0]]} in row {wrong[0]}, expected 0..{self.classes - 1} "
                f"for {self.classes} classes"
            )

    def _check_validation(self) -> None:
        if (self.validation_x is None) != (self.validation_y is None):
            raise DataError(f"{self.name}: got one of validation_x and validation_y, expected both or neither")
        if self.validation_x is not None:
            self._check_samples("validation_x", self.validation_x)
            self._check_labels("validation_y", self.validation_y, len(self.validation_x))

    def _check_groups(self) -> None:
        g: Any = self.group_N
        if g is None:
            return
        kind_ok = isinstance(g, np.ndarray) and (g.dtype == np.int64 or g.dtype.kind == "U")
        if not kind_ok or g.shape != (len(self.train_x),):
            got = f"{g.dtype} {g.shape}" if isinstance(g, np.ndarray) else type(g).__name__
            raise DataError(
                f"{self.name}: group_N: got {got}, expected int64 or text ({len(self.train_x)},), one a training row"
            )

    def _check_class_names(self) -> None:
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise DataError(
                f"{self.name}: class_names: got {len(self.class_names)} names, expected {self.classes}, one a class"
            )

    def _check_range(self) -> None:
        channels = self.sample_shape[0]
        if self.input_low is None and self.input_high is None and self.train_x.dtype == np.uint8:
            object.__setattr__(self, "input_low", (0.0,) * channels)
            object.__setattr__(self, "input_high", (255.0,) * channels)
        low, high = self.input_low, self.input_high
        if low is None and high is None:
            return
        if low is None or high is None or len(low) != channels or len(high) != channels:
            raise DataError(
                f"{self.name}: input range: got low {low} and high {high}, expected {channels} numbers in both"
            )
        if not all(np.isfinite((a, b)).all() and a < b for a, b in zip(low, high, strict=True)):
            raise DataError(
                f"{self.name}: input range: got low {low} and high {high}, expected finite numbers, low below high"
            )


class DataSource(Protocol):
    """What ``module:function`` must name: it takes the data table's other keys and returns a `Dataset`."""

    def __call__(self, **kwargs: Any) -> Dataset:
        """Return the data set; it must be the same whenever the arguments are the same."""
        ...


def load_dataset(source: str, *, base_dir: str | Path | None = None, **kwargs: Any) -> Dataset:
    """Return the data set that `source` names, made with `kwargs`.

    `source` is ``digits``, ``npz`` (then `path` is among `kwargs`), a path that ends in .npz, or ``module:function``.
    Relative paths and the user's modules are looked for in `base_dir`, usually the configuration file's directory.
    Raises ConfigError for an unknown source or argument, DataError for data that is not usable.
    """
    if source.endswith(".npz"):
        source, kwargs = "npz", {"path": source, **kwargs}
    if source == "npz" and isinstance(kwargs.get("path"), str | Path) and base_dir is not None:
        kwargs["path"] = Path(base_dir, kwargs["path"])  # an absolute path stays as it is
    if source in _SOURCES:
        function: Any = _SOURCES[source]
    elif ":" in source:
        function = plugins.load_object(source, base_dir)
    else:
        raise ConfigError(
            f"data source: got {source!r}{nearest(source, _SOURCES)}, expected {', '.join(_SOURCES)}, a path ending "
            "in .npz, or 'module:function'"
        )
    dataset = plugins.call(function, f"data source {source!r}", kwargs)
    if not isinstance(dataset, Dataset):
        raise DataError(f"data source {source!r}: got {type(dataset).__name__}, expected fedagg_edge.datasets.Dataset")
    return dataset


_FORMS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667, 1797)
"""Where each hand-filled form of the digits begins; the last number is the end.

The 1,797 digits are UCI optdigits' test part, in the order of its forms: every form asks for the same sequence of about
130 digits, beginning 0, 1, 2 and ending 0, 8, 9, 8, so the labels show where it starts. One hand fills one form.
"""


def digits(public_forms: int = 2, test_forms: int = 3) -> Dataset:
    """Return scikit-learn's 1,797 hand-written digits, uint8 1x8x8 in 0..16; it ships inside the wheel, no download.

    The split is fixed and cuts between forms only: the first `public_forms` (256 images) are public, the last
    `test_forms` (382 images, the issue's "last split") are the test set, the 1,159 between are private, with the form
    as group. So neither the autoencoder nor a device sees a hand that the test set is written in, and public data
    and test set lie farthest apart.

    Raises ConfigError if no form is left to train on or scikit-learn is missing.
    """
    forms = len(_FORMS) - 1
    if public_forms < 0 or test_forms < 1 or public_forms + test_forms >= forms:
        raise ConfigError(
            f"digits: got {public_forms} public and {test_forms} test forms, expected 0 or more, 1 or more, and fewer "
            f"than {forms} together"
        )
    images, label_N = _sklearn_digits()
    public, test = _FORMS[public_forms], _FORMS[-1 - test_forms]
    form_N = np.searchsorted(_FORMS, np.arange(len(images)), side="right") - 1
    return Dataset(
        name="digits",
        classes=10,
        train_x=images[public:test],
        train_y=label_N[public:test],
        test_x=images[test:],
        test_y=label_N[test:],
        public_x=images[:public],
        group_N=form_N[public:test].astype(np.int64),
        class_names=tuple("0123456789"),
        input_low=(0.0,),
        input_high=(16.0,),
    )


def _sklearn_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  heavy, and wanted by this source only
    except ImportError as error:
        raise ConfigError(
            "data source 'digits' needs scikit-learn, which is not installed; run: pip install 'fedagg-edge[sim]'"
        ) from error
    images, label_N = load_digits(return_X_y=True)
    return images.astype(np.uint8).reshape(-1, 1, 8, 8), label_N.astype(np.int64)


def npz(
    path: str | Path,
    *,
    x: str = "train_x",
    y: str = "train_y",
    test_x: str | None = None,
    test_y: str | None = None,
    public_x: str | None = None,
    group: str | None = None,
    layout: str = "auto",
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    input_low: Sequence[float] | None = None,
    input_high: Sequence[float] | None = None,
    test_fraction: float | None = None,
    public_fraction: float | None = None,
    test_groups: Sequence[int | str] | None = None,
    public_groups: Sequence[int | str] | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the data set in the .npz file at `path`; `x`, `y`, `test_x`, ... name its arrays.

    Without `test_x` and `test_y` a test set is held out of `x`: the groups in `test_groups`, or `test_fraction` (0.2)
    of the samples, drawn with `seed`. Public data likewise, from `public_x`, `public_groups` or `public_fraction`;
    without any there is none. With `group` whole groups are held out, so that nobody in the test set or the public
    data is in the training data.

    `layout` is NHWC, NCHW, NHW, NLC, NCL, NF or auto (see `fedagg_edge.npz.channel_first`); samples that are not uint8
    become float32. `classes` defaults to the largest label plus one.

    Raises DataError if the file, its arrays or the split are not usable.
    """
    if (test_x is None) != (test_y is None):
        raise DataError(f"{path}: got test_x = {test_x!r} and test_y = {test_y!r}, expected both or neither")
    named = {"x": x, "y": y, "test_x": test_x, "test_y": test_y, "public_x": public_x, "group": group}
    arrays = read_npz(path, {argument: key for argument, key in named.items() if key is not None})
    for part in ("x", "test_x", "public_x"):
        if part in arrays:
            arrays[part] = channel_first(arrays[part], layout, f"{path}: {named[part]}")
    for part in ("y", "test_y"):
        if part in arrays:
            arrays[part] = _labels(arrays[part], f"{path}: {named[part]}")
    if len(arrays["x"]) != len(arrays["y"]):
        raise DataError(f"{path}: got {len(arrays['x'])} samples and {len(arrays['y'])} labels, expected as many")
    largest = max((int(arrays[p].max(initial=0)) for p in ("y", "test_y") if p in arrays), default=0)
    split = HoldOut(path, arrays, np.random.default_rng(seed))
    split.hold_out("test", test_x is not None, test_groups, test_fraction, 0.2)
    split.hold_out("public", public_x is not None, public_groups, public_fraction, None)
    return Dataset(
        name=Path(path).stem,
        classes=max(2, largest + 1) if classes is None else classes,
        class_names=None if class_names is None else tuple(class_names),
        input_low=None if input_low is None else tuple(map(float, input_low)),
        input_high=None if input_high is None else tuple(map(float, input_high)),
        **split.parts(),
    )


def _labels(y: NDArray[Any], what: str) -> NDArray[np.int64]:
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise DataError(f"{what}: got {y.dtype} {y.shape}, expected one integer label a sample, 0 to classes - 1")
    return y.astype(np.int64)


_SOURCES = {"digits": digits, "npz": npz}
