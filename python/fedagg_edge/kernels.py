"""The C++ kernels as array functions: the distillation loss, aggregation of logits, and the codecs.

What lives here: names, types and the documentation of every call. What does not: mathematics (csrc/, specified by
`fedagg_edge.reference`) and checks (the C++ binding makes them, in well under a microsecond). Nothing else
imports `fedagg_edge._core` for them; learners, samples, bridge and the operators for torch call it here.

Arrays are NumPy, or torch tensors in CPU memory (torch 2.10 and newer), C-contiguous, and are never copied or
converted silently: a wrong dtype is a `TypeError`, a wrong shape, stride or value a `ValueError`. Letters: N samples, C
classes, K teachers, D embedding channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import _core
from fedagg_edge._core import DistillLoss, aggregate_logits, distill_loss

__all__ = [
    "AggregationMethod",
    "DistillLoss",
    "Logits",
    "QuantisedLogits",
    "RunningAggregate",
    "TopKLogits",
    "active_isa",
    "active_isa_reason",
    "aggregate_logits",
    "available_isas",
    "confidence",
    "decode_affine",
    "decode_top_k",
    "dequantise_logits",
    "distill_loss",
    "encode_affine",
    "encode_top_k",
    "force_isa",
    "from_f16",
    "pack_bits",
    "quantise_logits",
    "sgd_step",
    "to_f16",
    "unpack_bits",
]

AggregationMethod: TypeAlias = Literal[
    "mean_logits", "mean_probabilities", "entropy_weighted", "trimmed_mean", "median"
]


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedLogits:
    """Logits as one byte per class and one scale per row: logit = values_NC * scale_N[:, None].

    A row that held a NaN or an infinity has scale NaN, and so decodes to NaN.
    """

    values_NC: NDArray[np.int8]
    scale_N: NDArray[np.float32]


Logits: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | QuantisedLogits


def confidence(logits_NC: Logits) -> NDArray[np.float32]:
    """Return exp(-entropy(softmax(z))) for every row, float32 [N], from 1 / C (no idea) to 1 (certain)."""
    return _core.confidence(logits_NC)


class RunningAggregate:
    """An aggregate built up child by child, as knowledge arrives, in memory for two sets of logits.

    `add` in any order and then `result()` equals `aggregate_logits` of all of them, up to rounding. Only the three
    methods that are sums can be built up so; trimmed mean and median need every teacher at once.
    """

    def __init__(
        self, method: Literal["mean_logits", "mean_probabilities", "entropy_weighted"] = "mean_logits"
    ) -> None:
        if method not in {"mean_logits", "mean_probabilities", "entropy_weighted"}:
            raise ValueError(f"method: got {method!r}, expected one that is a sum over teachers")
        self._method = method
        self._logits_NC: NDArray[np.float32] | None = None
        self._weight_N: NDArray[np.float64] | None = None

    def add(self, logits_NC: Logits, weight_N: NDArray[np.floating[Any]] | float = 1.0) -> None:
        """Add one teacher with a weight per sample, 0 or more; where it is 0 the teacher has no influence.

        Raises what `aggregate_logits` raises, and ValueError for weights of another shape, negative or not finite; what
        was added before stays as it was.
        """
        rows, classes = _shape_of(logits_NC)
        weight = _weight_of_rows(weight_N, rows)
        before = np.zeros((rows, classes), np.float32) if self._logits_NC is None else self._logits_NC
        if before.shape != (rows, classes):
            raise ValueError(f"logits_NC: got shape {[rows, classes]}, expected {list(before.shape)} as before")
        known = np.zeros(rows) if self._weight_N is None else self._weight_N
        lost = np.zeros(rows, bool)
        if self._method == "entropy_weighted":
            sure = confidence(logits_NC)
            lost = np.isnan(sure) & (weight != 0)  # a NaN in the row: it spreads to the whole row
            weight = np.where((weight == 0) | lost, weight, weight * sure)
        total = known + weight
        # samples that nobody has spoken about yet keep the zeros they started with
        share = np.stack([np.where(total == 0, 1, known), weight])
        share /= np.where(total == 0, 1, total)  # in double: the weights may have any size
        method: AggregationMethod = "mean_logits" if self._method == "entropy_weighted" else self._method
        aggregate = aggregate_logits([before, logits_NC], method=method, sample_weights_KN=share.astype(np.float32))
        aggregate[lost] = np.nan
        self._logits_NC, self._weight_N = aggregate, total

    def result(self) -> NDArray[np.float32]:
        """Return the aggregate so far; raises `ValueError` for a sample whose weights sum to 0."""
        if self._logits_NC is None or self._weight_N is None:
            raise ValueError("teachers: got none, expected at least one")
        if (self._weight_N == 0).any():
            sample = int(np.flatnonzero(self._weight_N == 0)[0])
            raise ValueError(f"weights: got a sum of 0 at sample {sample}, expected a positive one for every sample")
        return self._logits_NC


def _shape_of(logits_NC: Logits) -> tuple[int, int]:
    values = logits_NC.values_NC if isinstance(logits_NC, QuantisedLogits) else logits_NC
    dtype: object = getattr(values, "dtype", None)
    shape: tuple[int, ...] = tuple(getattr(values, "shape", ()))
    if str(dtype).removeprefix("torch.") not in {"float32", "float16", "int8"}:
        got = type(values).__name__ if dtype is None else dtype
        raise TypeError(f"logits_NC: got {got}, expected float32 or float16 [N, C], or QuantisedLogits")
    if len(shape) != 2:
        raise ValueError(f"logits_NC: got shape {list(shape)}, expected [N, C]")
    return int(shape[0]), int(shape[1])


def _weight_of_rows(weight_N: NDArray[np.floating[Any]] | float, rows: int) -> NDArray[np.float64]:
    weight = np.asarray(weight_N, np.float64)
    if weight.shape not in {(), (rows,)}:
        raise ValueError(f"weight_N: got shape {list(weight.shape)}, expected one number or [{rows}]")
    weight = np.broadcast_to(weight, (rows,))
    if not (np.isfinite(weight) & (weight >= 0)).all():
        n = int(np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))[0])
        raise ValueError(f"weight_N: got {weight[n]:g} at sample {n}, expected a finite number, 0 or more")
    return weight


def quantise_logits(x_NC: NDArray[np.float32]) -> QuantisedLogits:
    """Quantise float32 [N, C] symmetrically per row: scale = max|x| / 127, byte = round_half_even(x / scale)."""
    return QuantisedLogits(*_core.quantise_logits(x_NC))


def dequantise_logits(quantised: QuantisedLogits) -> NDArray[np.float32]:
    """Return the float32 [N, C] logits that `quantised` stands for; the error is at most scale_N / 2."""
    if not isinstance(quantised, QuantisedLogits):
        raise TypeError(f"quantised: got {type(quantised).__name__}, expected QuantisedLogits")
    return _core.dequantise_logits(quantised.values_NC, quantised.scale_N)


def to_f16(x_NC: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round float32 [N, C] to float16, half to even; beyond 65504 lies infinity, and NaN stays NaN."""
    return _core.to_f16(x_NC)


def from_f16(half_NC: NDArray[np.float16]) -> NDArray[np.float32]:
    """Widen float16 [N, C] to float32, exactly."""
    return _core.from_f16(half_NC)


@dataclass(frozen=True, slots=True, eq=False)
class TopKLogits:
    """The k largest logits of every row, by falling logit, and the logit that each of the other classes gets.

    That one, rest_N, is such that the softmax of the kept classes stays as it was. Rows with a NaN decode to NaN.
    """

    classes_NK: NDArray[np.uint16]
    values_NK: NDArray[np.float32]
    rest_N: NDArray[np.float32]
    class_count: int


def encode_top_k(x_NC: NDArray[np.float32], k: int) -> TopKLogits:
    """Keep the k largest logits of every row of float32 [N, C], C at most 65536."""
    return TopKLogits(*_core.encode_top_k(x_NC, k), class_count=x_NC.shape[1])


def decode_top_k(kept: TopKLogits) -> NDArray[np.float32]:
    """Return float32 [N, C] logits whose softmax agrees with the original's on the kept classes."""
    if not isinstance(kept, TopKLogits):
        raise TypeError(f"kept: got {type(kept).__name__}, expected TopKLogits")
    return _core.decode_top_k(kept.classes_NK, kept.values_NK, kept.rest_N, kept.class_count)


def encode_affine(
    x_ND: NDArray[np.float32],
    low_D: NDArray[np.float32],
    step_D: NDArray[np.float32],
    bits_D: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Encode float32 [N, D] as bytes code, so that x ~ low + code * step.

    code = clamp(round_half_even((x - low) / step), 0, 2**bits - 1), with 8 bits where none are given.

    Raises `ValueError` for a NaN or an infinity in x or low, and for a step that is not above 0.
    """
    return _core.encode_affine(x_ND, low_D, step_D, bits_D)


def decode_affine(
    codes_ND: NDArray[np.uint8], low_D: NDArray[np.float32], step_D: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Decode bytes [N, D] to float32: low + code * step."""
    return _core.decode_affine(codes_ND, low_D, step_D)


def pack_bits(codes_ND: NDArray[np.uint8], bits_D: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack codes of bits_D bits each (0 to 8) into uint8 [N, ceil(sum(bits) / 8)], from the lowest bit upwards.

    A channel of 0 bits is not sent. Raises `ValueError` for a code that needs more bits than its channel has.
    """
    return _core.pack_bits(codes_ND, bits_D)


def unpack_bits(packed_NB: NDArray[np.uint8], bits_D: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes [N, D] that `pack_bits` packed."""
    return _core.unpack_bits(packed_NB, bits_D)


def sgd_step(
    parameters_P: NDArray[np.float32],
    gradient_P: NDArray[np.float32],
    velocity_P: NDArray[np.float32] | None = None,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """Take one step of stochastic gradient descent in place, as torch.optim.SGD without dampening does.

        g = gradient + weight_decay * parameters;  velocity = momentum * velocity + g
        parameters -= learning_rate * (g + momentum * velocity if nesterov else velocity)

    All are flat float32 [P] that do not overlap. A velocity of zeros starts it; without momentum it is not touched.
    """
    _core.sgd_step(
        parameters_P,
        gradient_P,
        velocity_P,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
    )


def available_isas() -> tuple[str, ...]:
    """Return the instruction sets that this build holds and this CPU runs, widest first; "scalar" is always last."""
    return _core.available_isas()


def active_isa() -> str:
    """Return the instruction set in use: FEDAGG_FORCE_ISA, else the first of `available_isas()`."""
    return _core.active_isa()


def active_isa_reason() -> str:
    """Return why `active_isa()` was chosen, in words for `fedagg doctor`."""
    return _core.active_isa_reason()


@contextmanager
def force_isa(isa: str) -> Iterator[None]:
    """Run the body on one instruction set, in every thread of the process; for tests and benchmarks."""
    before = _core.active_isa()
    _core.set_active_isa(isa)
    try:
        yield
    finally:
        _core.set_active_isa(before)
