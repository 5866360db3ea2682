"""The torch operators: the kernels' numbers, autograd, torch.compile, vmap, narrow dtypes, the fallback's formulas."""

import shutil
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fedagg_edge import kernels  # noqa: E402
from fedagg_edge.learners import torch_ops  # noqa: E402

OPTIONS: dict[str, Any] = {"ce_weight": 0.7, "kl_weight": 9.0, "temperature": 3.0}
DIRECTIONS = ("teacher||student", "student||teacher")


def batch(n: int = 6, c: int = 10, dtype: Any = torch.float32) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(3)
    s, t = (2 * torch.randn(n, c, generator=generator) for _ in range(2))
    return s.to(dtype).requires_grad_(True), t, torch.randint(0, c, (n,), generator=generator)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_loss_and_gradient_are_the_kernels(direction: str) -> None:
    s, t, y = batch()
    loss = torch_ops.distill_loss(s, t, y, direction=direction, **OPTIONS)
    (2 * loss).backward()
    got = kernels.distill_loss(s.detach().numpy(), t.numpy(), y.numpy(), direction=direction, **OPTIONS)  # type: ignore[call-overload]
    assert loss.item() == pytest.approx(got.loss, rel=1e-6)
    torch.testing.assert_close(s.grad, 2 * torch.from_numpy(got.gradient_NC))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradcheck_in_double(direction: str) -> None:
    s, t, y = batch(3, 4, torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: torch_ops.distill_loss(x, t, y, direction=direction, **OPTIONS), (s,), atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_students(dtype: Any) -> None:
    s, t, y = batch(dtype=dtype)
    loss = torch_ops.distill_loss(s, t, y, **OPTIONS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert s.grad.dtype == dtype
    wide = s.detach().float().requires_grad_(True)
    torch_ops.distill_loss(wide, t, y, **OPTIONS).backward()
    torch.testing.assert_close(s.grad, wide.grad.to(dtype))


def test_compiles_without_graph_breaks() -> None:
    s, t, y = batch()
    compiled = torch.compile(
        lambda x: 2 * torch_ops.distill_loss(x, t, y, **OPTIONS), fullgraph=True, backend="aot_eager"
    )
    compiled(s).backward()
    gradient, s.grad = s.grad, None
    (2 * torch_ops.distill_loss(s, t, y, **OPTIONS)).backward()
    torch.testing.assert_close(gradient, s.grad)


def test_under_vmap_forward_and_backward() -> None:
    students = torch.randn(4, 6, 10, requires_grad=True)
    _, t, y = batch()
    losses = torch.func.vmap(lambda x: torch_ops.distill_loss(x, t, y, **OPTIONS))(students)
    alone = torch.stack([torch_ops.distill_loss(x, t, y, **OPTIONS) for x in students])
    torch.testing.assert_close(losses, alone)
    (got,) = torch.autograd.grad(losses.square().sum(), students)
    (expected,) = torch.autograd.grad(alone.square().sum(), students)
    torch.testing.assert_close(got, expected)
    assert got.abs().max() > 0


def test_parts_alone_and_strides() -> None:
    s, _, y = batch()
    only_ce = torch_ops.distill_loss(s, None, y)
    torch.testing.assert_close(only_ce, torch.nn.functional.cross_entropy(s, y))
    transposed = s.detach().T.contiguous().T
    torch.testing.assert_close(torch_ops.distill_loss(transposed, None, y), only_ce.detach())
    with pytest.raises(ValueError, match="labels_N: got 99 at row 0"):
        torch_ops.distill_loss(s, None, torch.full_like(y, 99))


def test_masks_and_row_weights() -> None:
    s, t, y = batch()
    mask, weights = torch.arange(6) % 3 != 0, torch.rand(6)
    loss = torch_ops.distill_loss(s, t, y, mask_N=mask, row_weights_N=weights.double(), **OPTIONS)
    loss.backward()
    got = kernels.distill_loss(
        s.detach().numpy(), t.numpy(), y.numpy(), mask_N=mask.numpy(), row_weights_N=weights.numpy(), **OPTIONS
    )
    assert loss.item() == pytest.approx(got.loss, rel=1e-6)
    torch.testing.assert_close(s.grad, torch.from_numpy(got.gradient_NC))


@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="torch's default backend compiles with a C++ compiler"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as its compiler is imported
def test_compiled_by_the_default_backend() -> None:
    s, t, y = batch()
    compiled = torch.compile(lambda x: 2 * torch_ops.distill_loss(x.tanh(), t, y, **OPTIONS), fullgraph=True)
    compiled(s).backward()
    gradient, s.grad = s.grad, None
    (2 * torch_ops.distill_loss(s.tanh(), t, y, **OPTIONS)).backward()
    torch.testing.assert_close(gradient, s.grad)


CHECKS = ("test_schema", "test_faketensor", "test_autograd_registration")


def test_registration_is_sound() -> None:
    s, t, y = batch()
    arguments = (s, t, y, 0.7, 9.0, 3.0, 3.0, "teacher||student", torch.ones(6, dtype=torch.bool), torch.ones(6))
    torch.library.opcheck(torch_ops._distill_loss, arguments, test_utils=CHECKS)
    torch.library.opcheck(
        torch_ops._aggregate_logits,
        ([t, t.half()], "median", torch.ones(2), torch.ones(2, 6), torch.ones(2, 6, dtype=torch.bool), 0.25),
        test_utils=CHECKS,
    )


def test_aggregate() -> None:
    z = [torch.randn(5, 7) for _ in range(3)]
    weights = torch.tensor([1.0, 2.0, 3.0])
    got = torch_ops.aggregate_logits([z[0], z[1].half(), z[2].bfloat16()], weights_K=weights)
    expected = (z[0] + 2 * z[1].half().float() + 3 * z[2].bfloat16().float()) / 6
    torch.testing.assert_close(got, expected)
    compiled = torch.compile(
        lambda a: torch_ops.aggregate_logits(a, method="median"), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(z), torch.median(torch.stack(z), 0).values)
    with pytest.raises(ValueError, match="teachers: got none"):
        torch_ops.aggregate_logits([])


def test_no_gradient_flows_through_an_aggregate() -> None:
    z = [torch.randn(5, 7, requires_grad=True) for _ in range(2)]
    weights, sample_weights = torch.ones(2, requires_grad=True), torch.ones(2, 5, requires_grad=True)
    got = torch_ops.aggregate_logits(z, weights_K=weights, sample_weights_KN=sample_weights)
    assert not got.requires_grad
    assert not torch_ops.aggregate_logits(z, weights_K=weights).requires_grad
    (got.sum() + z[0].sum()).backward()  # as one part of a loss among others
    assert weights.grad is None
    assert sample_weights.grad is None


def test_aggregate_under_vmap() -> None:
    one, other, weights = torch.randn(4, 5, 7), torch.randn(4, 5, 7), torch.rand(4, 2)
    got = torch.func.vmap(lambda a, b, w: torch_ops.aggregate_logits([a, b], weights_K=w))(one, other, weights)
    expected = [torch_ops.aggregate_logits([a, b], weights_K=w) for a, b, w in zip(one, other, weights, strict=True)]
    torch.testing.assert_close(got, torch.stack(expected))


def test_aggregate_on_another_device() -> None:
    z = [torch.randn(5, 7).to("meta") for _ in range(3)]
    got = torch_ops._aggregate(z, "median", None, None, None, 0.25)
    assert (got.device.type, got.shape, got.dtype) == ("meta", (5, 7), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_another_device_runs_plain_torch(dtype: Any, direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch_ops.kernels, "distill_loss", None
    )  # the kernel has no business on a tensor without memory
    s, t, y = (x.to("meta") for x in batch())
    loss, gradient = torch_ops._compute(s.to(dtype), t, y, 1.0, 9.0, 3.0, 3.0, direction)
    assert (loss.device.type, loss.shape) == ("meta", ())
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (gradient.device.type, gradient.dtype, gradient.shape) == ("meta", dtype, s.shape)


def test_the_operator_takes_another_device_and_is_differentiable_there() -> None:
    s, t, y = (x.detach().to("meta") for x in batch())
    s.requires_grad_(True)
    torch_ops.distill_loss(s, t, y, kl_weight=9.0).backward()
    assert s.grad is not None
    assert (s.grad.device.type, s.grad.shape, s.grad.dtype) == ("meta", s.shape, s.dtype)
