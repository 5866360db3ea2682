"""The kernels' formulas in plain torch: what the operators of `torch_ops` run on devices that the kernels do not.

What a call can refuse without waiting for the device, it refuses as the kernels do: shapes, dtypes, options. Values in
device memory are not looked at. A weight below 0, infinite or NaN makes the loss or the sample NaN, and so does a
sample that no teacher has a weight for. A label beyond the classes, in a row that counts, is an index out of range like
any other in torch: an error on the CPU, a failed assertion on CUDA, undefined where a backend does not look.

Letters: N samples, C classes, K teachers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["DIRECTIONS", "METHODS", "Options", "aggregate_logits", "distill_loss"]

DIRECTIONS = ("teacher||student", "student||teacher")
METHODS = ("mean_logits", "mean_probabilities", "entropy_weighted", "trimmed_mean", "median")

# The kernels take an exponential below this one's, the row's largest being 1, as 0: in float32 a subnormal one, in
# float64 only what rounds to 0.
_LEAST_LOG = {torch.float32: -126 * math.log(2), torch.float64: -1075 * math.log(2)}


@dataclass(frozen=True, slots=True)
class Options:
    """The numbers of one distillation loss; what they mean and may be: `fedagg_edge.kernels.distill_loss`."""

    ce_weight: float
    kl_weight: float
    temperature: float
    teacher_temperature: float
    direction: str

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction: got {self.direction!r}, expected {DIRECTIONS[0]!r} or {DIRECTIONS[1]!r}")
        for name in ("ce_weight", "kl_weight"):
            _check(name, getattr(self, name), 0, 1e30)
        for name in ("temperature", "teacher_temperature"):
            _check(name, getattr(self, name), 1e-6, 1e6)


def distill_loss(
    student_NC: torch.Tensor,
    teacher_NC: torch.Tensor | None,
    labels_N: torch.Tensor | None,
    options: Options,
    *,
    mask_N: torch.Tensor | None = None,
    row_weights_N: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scalar loss and its gradient [N, C], contiguous, both of the student's dtype (float32 or float64).

    Raises ValueError for a shape or an option that does not fit, TypeError for labels or a mask of another dtype.
    """
    _check_parts(student_NC, teacher_NC, labels_N, options)
    scale_N = _row_scales(student_NC, mask_N, row_weights_N)
    # a row that does not count may hold anything
    counts_N = scale_N != 0
    student_NC = torch.where(counts_N[:, None], student_NC, 0)
    loss, gradient_NC = student_NC.new_zeros(()), torch.zeros_like(student_NC, memory_format=torch.contiguous_format)
    if labels_N is not None:
        labels_N = torch.where(counts_N, labels_N, 0)
        log_p = torch.log_softmax(student_NC, 1)
        # not nll_loss: it passes over the label -100
        ce = -(scale_N * log_p.gather(1, labels_N[:, None])[:, 0]).sum()
        loss = loss + _weighted(options.ce_weight, ce)
        one_hot = torch.zeros_like(log_p).scatter(1, labels_N[:, None], 1)
        gradient_NC = gradient_NC + options.ce_weight * scale_N[:, None] * (log_p.exp() - one_hot)
    if teacher_NC is not None:
        teacher_NC = torch.where(counts_N[:, None], teacher_NC.to(student_NC.dtype), 0)
        kl_N, slope_NC = _divergence(student_NC, teacher_NC, options)
        loss = loss + _weighted(options.kl_weight, (scale_N * kl_N).sum())
        gradient_NC = gradient_NC + options.kl_weight / options.temperature * scale_N[:, None] * slope_NC
    return loss, gradient_NC


def _divergence(
    student_NC: torch.Tensor, teacher_NC: torch.Tensor, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL [N] and temperature * dKL/dstudent [N, C]; a probability of 0 adds nothing, whatever it is compared with."""
    log_q, from_q = _softmax(student_NC, options.temperature)
    log_p, from_p = _softmax(teacher_NC, options.teacher_temperature)
    q = from_q / from_q.sum(1, keepdim=True)
    if options.direction == DIRECTIONS[0]:
        return _mean(from_p, log_p - log_q), q - from_p / from_p.sum(1, keepdim=True)
    ratio = log_q - log_p
    kl_N = _mean(from_q, ratio)
    slope_NC = torch.where(from_q == 0, 0, q * (ratio - kl_N[:, None]))
    # NaN for the whole row, its classes of probability 0 included, as the kernels have it
    return kl_N, torch.where(torch.isfinite(kl_N)[:, None], slope_NC, torch.nan)


def _softmax(z_NC: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The logarithms of the probabilities, and the exponentials they come from: at most 1, tiny ones 0."""
    # the maximum first: divided by a small temperature it may overflow
    log_p = torch.log_softmax((z_NC - z_NC.amax(1, keepdim=True)) / temperature, 1)
    below_NC = log_p - log_p.amax(1, keepdim=True)
    return log_p, torch.where(below_NC < _LEAST_LOG[z_NC.dtype], 0, below_NC.exp())


def _mean(weight_NC: torch.Tensor, x_NC: torch.Tensor) -> torch.Tensor:
    return torch.where(weight_NC == 0, 0, weight_NC * x_NC).sum(1) / weight_NC.sum(1)


def _weighted(weight: float, part: torch.Tensor) -> torch.Tensor:
    """An unused part may be infinite, and 0 * inf is not 0; a NaN stays one."""
    return weight * part if weight else torch.where(torch.isnan(part), part, 0)


def _row_scales(
    student_NC: torch.Tensor, mask_N: torch.Tensor | None, row_weights_N: torch.Tensor | None
) -> torch.Tensor:
    """Each row's share of the mean, summing to 1, or 0 everywhere when no row counts."""
    rows, dtype = len(student_NC), student_NC.dtype
    weight_N = student_NC.new_ones(rows)
    if row_weights_N is not None:
        _check_shape("row_weights_N", row_weights_N, (rows,))
        weight_N = row_weights_N.float().to(dtype)  # the kernels read float32: what is no float32 is 0 or infinite
        weight_N = torch.where(weight_N >= 0, weight_N, torch.nan)
    if mask_N is not None:
        _check_shape("mask_N", mask_N, (rows,))
        _check_dtype("mask_N", mask_N, torch.bool)
        weight_N = torch.where(mask_N, weight_N, 0)
    if rows == 0:
        return weight_N
    # by the maximum first: the sum of large weights overflows, and so does what is divided by a tiny sum
    largest = weight_N.amax()
    share_N = weight_N / torch.where(largest == 0, 1, largest)
    total = share_N.sum()
    share_N = share_N / torch.where(total == 0, 1, total)
    # a row of little weight counts all the same: what is infinite in it stays so
    least = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    return torch.where(weight_N == 0, 0, share_N.clamp(min=least))


def _check_parts(
    student_NC: torch.Tensor, teacher_NC: torch.Tensor | None, labels_N: torch.Tensor | None, options: Options
) -> None:
    if student_NC.ndim != 2 or student_NC.shape[1] == 0:
        raise ValueError(f"student_NC: got shape {list(student_NC.shape)}, expected [N, C] with C at least 1")
    if labels_N is None and options.ce_weight != 0:
        raise ValueError("labels_N: got none, expected labels because ce_weight is not 0; pass them or set ce_weight=0")
    if teacher_NC is None and options.kl_weight != 0:
        raise ValueError(
            "teacher_NC: got none, expected logits because kl_weight is not 0; pass them or set kl_weight=0"
        )
    if labels_N is None and teacher_NC is None:
        raise ValueError("labels_N and teacher_NC: got neither, expected at least one of them")
    if labels_N is not None:
        _check_shape("labels_N", labels_N, student_NC.shape[:1])
        _check_dtype("labels_N", labels_N, torch.int64)
    if teacher_NC is not None:
        _check_shape("teacher_NC", teacher_NC, student_NC.shape)


def aggregate_logits(
    teachers: Sequence[torch.Tensor],
    method: str,
    *,
    weights_K: torch.Tensor | None = None,
    sample_weights_KN: torch.Tensor | None = None,
    mask_KN: torch.Tensor | None = None,
    trim: float = 0.25,
) -> torch.Tensor:
    """Return the aggregate, float32 [N, C]; `fedagg_edge.kernels.aggregate_logits` says what each method computes.

    Raises ValueError for a method, a trim or a shape that does not fit, TypeError for a mask of another dtype.
    """
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}, expected one of {', '.join(METHODS)}")
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim: got {trim}, expected 0 to below 0.5")
    z_KNC = _stacked(teachers)
    weight_KN = _teacher_weights(z_KNC, weights_K, sample_weights_KN, mask_KN)
    if method in {"trimmed_mean", "median"}:
        return _middle(z_KNC, weight_KN, trim, is_median=method == "median")
    z_KNC = torch.where((weight_KN != 0)[..., None], z_KNC, 0)  # who has no weight may hold anything
    if method == "mean_probabilities":
        return torch.logsumexp(torch.log_softmax(z_KNC, 2) + weight_KN.log()[..., None], 0)
    if method == "entropy_weighted":
        log_p = torch.log_softmax(z_KNC, 2)
        entropy_KN = -torch.where(log_p == -torch.inf, 0, log_p.exp() * log_p).sum(2)
        weight_KN = torch.where(weight_KN == 0, 0, weight_KN * (-entropy_KN).exp())
        weight_KN = weight_KN / weight_KN.sum(0)
    return torch.where((weight_KN != 0)[..., None], weight_KN[..., None] * z_KNC, 0).sum(0)


def _stacked(teachers: Sequence[torch.Tensor]) -> torch.Tensor:
    if not teachers:
        raise ValueError("teachers: got none, expected at least one")
    for k, teacher in enumerate(teachers):
        if teacher.ndim != 2 or teacher.shape[1] == 0:
            raise ValueError(f"teachers[{k}]: got shape {list(teacher.shape)}, expected [N, C] with C at least 1")
        _check_shape(f"teachers[{k}]", teacher, teachers[0].shape)
    return torch.stack([teacher.float() for teacher in teachers])


def _teacher_weights(
    z_KNC: torch.Tensor,
    weights_K: torch.Tensor | None,
    sample_weights_KN: torch.Tensor | None,
    mask_KN: torch.Tensor | None,
) -> torch.Tensor:
    """Each teacher's share of each sample, summing to 1 over the teachers; NaN where no teacher has a weight."""
    shape = z_KNC.shape[:2]
    # Roots, for a product of two float32 may be too small or too large for float32, and not every device has float64.
    root_KN = z_KNC.new_ones(shape)
    if weights_K is not None:
        _check_shape("weights_K", weights_K, shape[:1])
        root_KN = root_KN * weights_K.float().sqrt()[:, None]
    if sample_weights_KN is not None:
        _check_shape("sample_weights_KN", sample_weights_KN, shape)
        root_KN = root_KN * sample_weights_KN.float().sqrt()
    if mask_KN is not None:
        _check_shape("mask_KN", mask_KN, shape)
        _check_dtype("mask_KN", mask_KN, torch.bool)
        root_KN = torch.where(mask_KN, root_KN, 0)
    weight_KN = (root_KN / root_KN.amax(0)).square()
    return weight_KN / weight_KN.sum(0)


def _middle(z_KNC: torch.Tensor, weight_KN: torch.Tensor, trim: float, *, is_median: bool) -> torch.Tensor:
    """Per class the mean of the sorted values [first, last) of those who take part."""
    takes_part_KN = weight_KN != 0
    taking = takes_part_KN[..., None]
    is_nan_NC = ((torch.isnan(z_KNC) & taking) | torch.isnan(weight_KN)[..., None]).any(0)
    sorted_KNC = torch.where(taking, z_KNC, torch.inf).sort(0).values
    count_N = takes_part_KN.sum(0)
    # a table, for the kernels multiply in double: 0.29 * 100 in float32 is 29
    cuts = [(k - 1) // 2 if is_median else int(trim * k) for k in range(1, len(z_KNC) + 1)]
    cut_N = torch.tensor([0, *cuts], device=z_KNC.device)[count_N]
    position_K11 = torch.arange(len(z_KNC), device=z_KNC.device)[:, None, None]
    kept = (position_K11 >= cut_N[:, None]) & (position_K11 < (count_N - cut_N)[:, None])
    mean_NC = torch.where(kept, sorted_KNC, 0).sum(0) / kept.sum(0)
    return torch.where(is_nan_NC, torch.nan, mean_NC)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: got {value:g}, expected a number from {least:g} to {most:g}")


def _check_shape(name: str, got: torch.Tensor, expected: Sequence[int]) -> None:
    if tuple(got.shape) != tuple(expected):
        raise ValueError(f"{name}: got shape {list(got.shape)}, expected {list(expected)}")


def _check_dtype(name: str, got: torch.Tensor, expected: torch.dtype) -> None:
    if got.dtype != expected:
        raise TypeError(f"{name}: got {got.dtype}, expected {expected}; convert with .to({expected})")
