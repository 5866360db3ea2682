"""torch operators over the C++ kernels, for users' own training loops: autograd, torch.compile, vmap (not func.grad).

What lives here: `distill_loss` and `aggregate_logits` on tensors, registered with torch.library. What does not: our own
torch learner, which calls the kernel and then `logits.backward(gradient)`, and so pays for no autograd function.

CPU tensors run the kernels: float32 and float64 students as they are, float16 and bfloat16 through a float32 copy. On
any other device plain torch computes the same (`torch_formulas`). Needs torch 2.5, where custom operators learned vmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from fedagg_edge import kernels
from fedagg_edge.learners import torch_formulas

__all__ = ["aggregate_logits", "distill_loss"]

_DISTILL = (
    "(Tensor student, Tensor? teacher, Tensor? labels, float ce_weight, float kl_weight, float temperature, "
    "float teacher_temperature, str direction, Tensor? mask, Tensor? row_weights) -> (Tensor, Tensor)"
)
_AGGREGATE = (
    "(Tensor[] teachers, str method, Tensor? weights, Tensor? sample_weights, Tensor? mask, float trim) -> Tensor"
)


def distill_loss(
    student_NC: torch.Tensor,
    teacher_NC: torch.Tensor | None = None,
    labels_N: torch.Tensor | None = None,
    *,
    ce_weight: float = 1.0,
    kl_weight: float = 0.0,
    temperature: float = 3.0,
    teacher_temperature: float | None = None,
    direction: str = "teacher||student",
    mask_N: torch.Tensor | None = None,
    row_weights_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the scalar loss of `fedagg_edge.kernels.distill_loss`, differentiable with respect to the student.

    The teacher is a constant: no gradient flows into it, nor into the weights. The loss is float32 for students of 32
    bits and fewer. Raises what the kernel raises; on other devices values in device memory are not looked at.
    """
    if teacher_temperature is None:
        teacher_temperature = temperature
    if teacher_NC is not None:
        teacher_NC = teacher_NC.detach()
    loss, _ = _distill_loss(
        student_NC,
        teacher_NC,
        labels_N,
        ce_weight,
        kl_weight,
        temperature,
        teacher_temperature,
        direction,
        mask_N,
        None if row_weights_N is None else row_weights_N.detach(),
    )
    result: torch.Tensor = loss
    return result


def _compute(  # noqa: PLR0917  # the operator's schema is positional
    student: torch.Tensor,
    teacher: torch.Tensor | None,
    labels: torch.Tensor | None,
    ce_weight: float,
    kl_weight: float,
    temperature: float,
    teacher_temperature: float,
    direction: str,
    mask: torch.Tensor | None = None,
    row_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and its gradient with respect to the student."""
    wide = _wide(student)
    if student.device.type != "cpu":
        options = torch_formulas.Options(ce_weight, kl_weight, temperature, teacher_temperature, direction)
        loss, gradient = torch_formulas.distill_loss(
            wide, teacher, labels, options, mask_N=mask, row_weights_N=row_weights
        )
        return loss, gradient.to(student.dtype)
    if teacher is not None and (wide.dtype == torch.float64 or teacher.dtype not in {torch.float32, torch.float16}):
        teacher = teacher.to(wide.dtype)
    got = kernels.distill_loss(
        _array(wide),
        None if teacher is None else _array(teacher),
        None if labels is None else _array(labels),
        ce_weight=ce_weight,
        kl_weight=kl_weight,
        temperature=temperature,
        teacher_temperature=teacher_temperature,
        direction=cast(Any, direction),  # a wrong word is refused by the kernel
        mask_N=None if mask is None else _array(mask),
        row_weights_N=None if row_weights is None else _array(row_weights.float()),
    )
    return torch.tensor(got.loss, dtype=wide.dtype), torch.from_numpy(got.gradient_NC).to(student.dtype)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype in {torch.float32, torch.float64} else x.float()


def _array(x: torch.Tensor) -> Any:
    return x.detach().contiguous().numpy()


_distill_loss: Any = torch.library.custom_op("fedagg_edge::distill_loss", _compute, mutates_args=(), schema=_DISTILL)


def _fake_distill_loss(student: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    return student.new_empty((), dtype=dtype), torch.empty_like(student, memory_format=torch.contiguous_format)


_distill_loss.register_fake(_fake_distill_loss)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_loss: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (gradient,) = ctx.saved_tensors
    return (gradient * grad_loss.to(gradient.dtype), *[None] * 9)


_distill_loss.register_autograd(_backward, setup_context=_save)


def _vmap(
    info: Any, in_dims: tuple[int | None, ...], *inputs: Any
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[int, int]]:
    """One call per slice: a mean is taken within each slice, so slices cannot be joined into one batch."""
    slices = [
        _distill_loss(*(x if dim is None else x.select(dim, i) for x, dim in zip(inputs, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
    return (torch.stack([loss for loss, _ in slices]), torch.stack([g for _, g in slices])), (0, 0)


_distill_loss.register_vmap(_vmap)


def aggregate_logits(
    teachers: Sequence[torch.Tensor],
    *,
    method: str = "mean_logits",
    weights_K: torch.Tensor | None = None,
    sample_weights_KN: torch.Tensor | None = None,
    mask_KN: torch.Tensor | None = None,
    trim: float = 0.25,
) -> torch.Tensor:
    """Return `fedagg_edge.kernels.aggregate_logits` of tensors, float32 [N, C]; no gradient flows through it.

    Raises what the kernel raises; on other devices than the CPU a sample that no teacher has a weight for becomes NaN.
    """
    result: torch.Tensor = _aggregate_logits(
        [t.detach() for t in teachers],
        method,
        None if weights_K is None else weights_K.detach(),
        None if sample_weights_KN is None else sample_weights_KN.detach(),
        mask_KN,
        trim,
    )
    return result


def _aggregate(  # noqa: PLR0917
    teachers: Sequence[torch.Tensor],
    method: str,
    weights: torch.Tensor | None,
    sample_weights: torch.Tensor | None,
    mask: torch.Tensor | None,
    trim: float,
) -> torch.Tensor:
    if teachers and teachers[0].device.type != "cpu":
        return torch_formulas.aggregate_logits(
            teachers, method, weights_K=weights, sample_weights_KN=sample_weights, mask_KN=mask, trim=trim
        )
    got = kernels.aggregate_logits(
        [_array(t if t.dtype == torch.float16 else t.float()) for t in teachers],
        method=cast(Any, method),
        weights_K=None if weights is None else _array(weights.float()),
        sample_weights_KN=None if sample_weights is None else _array(sample_weights.float()),
        mask_KN=None if mask is None else _array(mask),
        trim=trim,
    )
    return torch.from_numpy(got)


_aggregate_logits: Any = torch.library.custom_op(
    "fedagg_edge::aggregate_logits", _aggregate, mutates_args=(), schema=_AGGREGATE
)


def _fake_aggregate_logits(teachers: Sequence[torch.Tensor], *_: Any) -> torch.Tensor:
    if not teachers:
        raise ValueError("teachers: got none, expected at least one")
    return teachers[0].new_empty(teachers[0].shape, dtype=torch.float32)


_aggregate_logits.register_fake(_fake_aggregate_logits)


def _vmap_aggregate(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[torch.Tensor, int]:
    """One call per slice: a slice may have weights of its own."""

    def at(x: Any, dim: Any, i: int) -> Any:
        if isinstance(x, list | tuple):
            return [at(y, d, i) for y, d in zip(x, dim, strict=True)]
        return x if dim is None else x.select(dim, i)

    slices = [
        _aggregate_logits(*(at(x, dim, i) for x, dim in zip(inputs, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
    return torch.stack(slices), 0


_aggregate_logits.register_vmap(_vmap_aggregate)
