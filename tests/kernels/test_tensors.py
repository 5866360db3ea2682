"""torch tensors through DLPack: the same numbers, no copy, the same refusals. The core links nothing of torch."""

import numpy as np
import pytest

from fedagg_edge import kernels

torch = pytest.importorskip("torch")
if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    pytest.skip("this torch does not exchange DLPack in C", allow_module_level=True)


def test_same_numbers_as_numpy(isa: str, rng: np.random.Generator) -> None:
    s, t = (torch.from_numpy(rng.normal(size=(9, 10)).astype(np.float32)) for _ in range(2))
    y, mask = torch.arange(9), torch.arange(9) % 2 == 0
    got = kernels.distill_loss(s, t, y, kl_weight=2.0, mask_N=mask)
    expected = kernels.distill_loss(s.numpy(), t.numpy(), y.numpy(), kl_weight=2.0, mask_N=mask.numpy())
    assert isinstance(got.gradient_NC, torch.Tensor)
    assert got[:3] == expected[:3]
    np.testing.assert_array_equal(got.gradient_NC.numpy(), expected.gradient_NC)
    half = kernels.distill_loss(s, t.half(), y, kl_weight=2.0)
    same = kernels.distill_loss(s, t.half().float(), y, kl_weight=2.0)
    assert half[:3] == same[:3]


def test_out_and_aliasing() -> None:
    s, y = torch.randn(4, 3), torch.zeros(4, dtype=torch.long)
    out = torch.empty(4, 3)
    assert kernels.distill_loss(s, None, y, out=out).gradient_NC is out
    kernels.distill_loss(s, None, y, out=s)
    assert torch.equal(s, out)


def test_no_rows() -> None:
    nothing = torch.from_numpy(np.empty((0, 10), np.float32))  # whose strides are not those of a row
    got = kernels.distill_loss(nothing, nothing, torch.empty(0, dtype=torch.long), kl_weight=1.0)
    assert got.loss == 0
    assert got.gradient_NC.shape == (0, 10)


def test_doubles_and_parameters() -> None:
    y = torch.tensor([0, 1])
    got = kernels.distill_loss(torch.zeros(2, 2, dtype=torch.float64), None, y)
    assert got.gradient_NC.dtype == torch.float64
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    assert kernels.distill_loss(parameter, None, y).loss == pytest.approx(np.log(2))


def test_aggregation_and_codecs_take_tensors() -> None:
    z = torch.randn(3, 5)
    np.testing.assert_array_equal(
        kernels.aggregate_logits([z, z.half()]), kernels.aggregate_logits([z.numpy(), z.half().numpy()])
    )
    np.testing.assert_array_equal(kernels.to_f16(z), z.half().numpy())


def test_refusals() -> None:
    y = torch.zeros(4, dtype=torch.long)
    with pytest.raises(
        TypeError,
        match=r"student_NC: got torch.float16, expected float32 or float64; convert with .to\(torch.float32\)",
    ):
        kernels.distill_loss(torch.zeros(4, 2).half(), None, y)
    with pytest.raises(TypeError, match=r"student_NC: got torch\.bfloat16"):
        kernels.distill_loss(torch.zeros(4, 2).bfloat16(), None, y)
    with pytest.raises(
        ValueError, match=r"not c-contiguous and aligned, expected one that is; copy it with .contiguous\(\)"
    ):
        kernels.distill_loss(torch.zeros(2, 4).T, None, y)
    with pytest.raises(ValueError, match=r"student_NC: got shape \[4, 2, 2\]"):
        kernels.distill_loss(torch.zeros(4, 2, 2), None, y)
    with pytest.raises(TypeError, match=r"labels_N: got torch\.int32, expected int64"):
        kernels.distill_loss(torch.zeros(4, 2), None, y.int())
    with pytest.raises(TypeError, match=r"mask_N: got torch.uint8, expected bool_; convert with .to\(torch.bool\)"):
        kernels.distill_loss(torch.zeros(4, 2), None, y, mask_N=torch.ones(4, dtype=torch.uint8))


def test_a_tensor_that_has_lost_its_memory() -> None:
    """As FSDP leaves parameters between their uses: shape and strides are there, the storage is not."""
    y = torch.zeros(4000, dtype=torch.long)
    released = torch.randn(4000, 30)
    released.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="student_NC: got a tensor without memory"):
        kernels.distill_loss(released, None, y)
    with pytest.raises(ValueError, match="out: got a tensor without memory"):
        kernels.distill_loss(torch.randn(4000, 30), None, y, out=released)
    with pytest.raises(ValueError, match=r"teachers\[1\]: got a tensor without memory"):
        kernels.aggregate_logits([torch.randn(4000, 30), released])


def test_tensors_that_share_no_memory() -> None:
    y = torch.zeros(4, dtype=torch.long)
    for tensor in (torch.zeros(4, 2, device="meta"), torch.eye(4).to_sparse()):
        with pytest.raises(ValueError, match=r"student_NC: got a tensor (whose memory|on )"):
            kernels.distill_loss(tensor, None, y)
    with pytest.raises(ValueError, match=r"student_NC: got a tensor whose memory.*torch_ops"):
        torch.func.vmap(lambda s: torch.tensor(kernels.distill_loss(s, None, y).loss))(torch.zeros(3, 4, 2))
