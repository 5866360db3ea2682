from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

class DistillLoss(tuple[float, float, float, NDArray[Any]]):
    """The distillation loss of one batch: loss = ce_weight * ce + kl_weight * kl, and d loss / d student.

    A struct sequence: made from one iterable of the four.
    """

    def __new__(cls, values: Iterable[Any], /) -> Self: ...
    @property
    def loss(self) -> float: ...
    @property
    def ce(self) -> float: ...
    @property
    def kl(self) -> float: ...
    @property
    def gradient_NC(self) -> NDArray[Any]: ...

@overload
def distill_loss(
    student_NC: NDArray[np.float32],
    teacher_NC: object | None = ...,
    labels_N: NDArray[np.int64] | None = ...,
    *,
    ce_weight: float = ...,
    kl_weight: float = ...,
    temperature: float = ...,
    teacher_temperature: float | None = ...,
    direction: Literal["teacher||student", "student||teacher"] = ...,
    mask_N: NDArray[np.bool_] | None = ...,
    row_weights_N: NDArray[np.float32] | None = ...,
    out: NDArray[np.float32] | None = ...,
    threads: int = ...,
) -> DistillLoss: ...
@overload
def distill_loss(
    student_NC: NDArray[np.float64],
    teacher_NC: NDArray[np.float64] | None = ...,
    labels_N: NDArray[np.int64] | None = ...,
    *,
    ce_weight: float = ...,
    kl_weight: float = ...,
    temperature: float = ...,
    teacher_temperature: float | None = ...,
    direction: Literal["teacher||student", "student||teacher"] = ...,
    mask_N: NDArray[np.bool_] | None = ...,
    row_weights_N: NDArray[np.float32] | None = ...,
    out: NDArray[np.float64] | None = ...,
    threads: int = ...,
) -> DistillLoss: ...
def aggregate_logits(
    teachers: Sequence[object],
    *,
    method: Literal["mean_logits", "mean_probabilities", "entropy_weighted", "trimmed_mean", "median"] = ...,
    weights_K: NDArray[np.float32] | None = ...,
    sample_weights_KN: NDArray[np.float32] | None = ...,
    mask_KN: NDArray[np.bool_] | None = ...,
    trim: float = ...,
    out: NDArray[np.float32] | None = ...,
    threads: int = ...,
) -> NDArray[np.float32]: ...
def confidence(logits_NC: object) -> NDArray[np.float32]: ...
def quantise_logits(x_NC: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]: ...
def dequantise_logits(values_NC: NDArray[np.int8], scale_N: NDArray[np.float32]) -> NDArray[np.float32]: ...
def to_f16(x_NC: NDArray[np.float32]) -> NDArray[np.float16]: ...
def from_f16(half_NC: NDArray[np.float16]) -> NDArray[np.float32]: ...
def encode_top_k(
    x_NC: NDArray[np.float32], k: int
) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.float32]]: ...
def decode_top_k(
    classes_NK: NDArray[np.uint16], values_NK: NDArray[np.float32], rest_N: NDArray[np.float32], class_count: int
) -> NDArray[np.float32]: ...
def pack_bits(codes_ND: NDArray[np.uint8], bits_D: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
def unpack_bits(packed_NB: NDArray[np.uint8], bits_D: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
def sgd_step(
    parameters_P: NDArray[np.float32],
    gradient_P: NDArray[np.float32],
    velocity_P: NDArray[np.float32] | None = ...,
    *,
    learning_rate: float,
    momentum: float = ...,
    weight_decay: float = ...,
    nesterov: bool = ...,
) -> None: ...
def encode_affine(
    x_ND: NDArray[np.float32],
    low_D: NDArray[np.float32],
    step_D: NDArray[np.float32],
    bits_D: NDArray[np.uint8] | None = ...,
) -> NDArray[np.uint8]: ...
def decode_affine(
    codes_ND: NDArray[np.uint8], low_D: NDArray[np.float32], step_D: NDArray[np.float32]
) -> NDArray[np.float32]: ...
def unmap_loaded_pages(seen: int) -> int: ...
def available_isas() -> tuple[str, ...]: ...
def active_isa() -> str: ...
def active_isa_reason() -> str: ...
def set_active_isa(isa: str) -> None: ...
