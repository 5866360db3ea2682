"""torch operators over the C++ kernels, for users' own training loops: autograd, torch.compile, vmap (not func.grad).

What lives here: `distill_loss` and `aggregate_logits` on tensors, registered with torch.library. What does not: our own
torch learner, which calls the kernel and then `logits.backward(gradient)`, and so pays for no autograd function.

CPU tensors run the kernels: float32 and float64 students as they are, float16 and bfloat16 through a float32 copy. On
any other device plain torch formulas compute the same loss and the same gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.nn import functional

from fedagg_edge import kernels

__all__ = ["aggregate_logits", "distill_loss"]

_DISTILL = (
    "(Tensor student, Tensor? teacher, Tensor? labels, float ce_weight, float kl_weight, float temperature, "
    "float teacher_temperature, str direction) -> (Tensor, Tensor)"
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
) -> torch.Tensor:
    """Return the scalar loss of `fedagg_edge.kernels.distill_loss`, differentiable with respect to the student.

    The teacher is a constant: no gradient flows into it. The loss is float32 for students of 32 bits and fewer.
    """
    if teacher_temperature is None:
        teacher_temperature = temperature
    if teacher_NC is not None:
        teacher_NC = teacher_NC.detach()
    loss, _ = _distill_loss(
        student_NC, teacher_NC, labels_N, ce_weight, kl_weight, temperature, teacher_temperature, direction
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
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and its gradient with respect to the student."""
    wide = _wide(student)
    if student.device.type != "cpu":
        loss, gradient = _formulas(
            wide, teacher, labels, ce_weight, kl_weight, temperature, teacher_temperature, direction
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
    )
    return torch.tensor(got.loss, dtype=wide.dtype), torch.from_numpy(got.gradient_NC).to(student.dtype)


def _formulas(  # noqa: PLR0917
    student: torch.Tensor,
    teacher: torch.Tensor | None,
    labels: torch.Tensor | None,
    ce_weight: float,
    kl_weight: float,
    temperature: float,
    teacher_temperature: float,
    direction: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain torch, for devices that the kernels do not run on."""
    rows = max(len(student), 1)
    loss, gradient = student.new_zeros(()), torch.zeros_like(student)
    if labels is not None:
        log_p = torch.log_softmax(student, 1)
        loss = loss + ce_weight * functional.nll_loss(log_p, labels, reduction="sum") / rows
        one_hot = functional.one_hot(labels, student.shape[1])
        gradient = gradient + ce_weight / rows * (log_p.exp() - one_hot)
    if teacher is not None:
        log_s = torch.log_softmax(student / temperature, 1)
        log_t = torch.log_softmax(teacher.to(student.dtype) / teacher_temperature, 1)
        scale = kl_weight / rows
        if direction == "teacher||student":
            loss = loss + scale * torch.where(log_t == -torch.inf, 0, log_t.exp() * (log_t - log_s)).sum()
            gradient = gradient + scale / temperature * (log_s.exp() - log_t.exp())
        else:
            log_ratio = log_s - log_t
            kl_N = torch.where(log_s == -torch.inf, 0, log_s.exp() * log_ratio).sum(1, keepdim=True)
            loss = loss + scale * kl_N.sum()
            gradient = gradient + scale / temperature * log_s.exp() * (log_ratio - kl_N)
    return loss, gradient


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
    return (gradient * grad_loss.to(gradient.dtype), *[None] * 7)


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
    teachers: Sequence[torch.Tensor], *, method: str = "mean_logits", weights_K: torch.Tensor | None = None
) -> torch.Tensor:
    """Return `fedagg_edge.kernels.aggregate_logits` of CPU tensors, float32 [N, C]; no gradient flows through it."""
    result: torch.Tensor = _aggregate_logits([t.detach() for t in teachers], method, weights_K)
    return result


def _aggregate(teachers: Sequence[torch.Tensor], method: str, weights: torch.Tensor | None) -> torch.Tensor:
    arrays = [_array(t if t.dtype == torch.float16 else t.float()) for t in teachers]
    weights_K = None if weights is None else _array(weights.float())
    return torch.from_numpy(kernels.aggregate_logits(arrays, method=method, weights_K=weights_K))  # type: ignore[arg-type]


_aggregate_logits: Any = torch.library.custom_op(
    "fedagg_edge::aggregate_logits",
    _aggregate,
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor[] teachers, str method, Tensor? weights) -> Tensor",
)


def _fake_aggregate_logits(teachers: Sequence[torch.Tensor], method: str, weights: torch.Tensor | None) -> torch.Tensor:
    return teachers[0].new_empty(teachers[0].shape, dtype=torch.float32)


_aggregate_logits.register_fake(_fake_aggregate_logits)
