"""Every rewrite is torch's operator exactly: compared in float64. ExecuTorch itself is not needed."""
# ruff: noqa: PLR0917  # as many arguments as torch's operators have

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from fedagg_edge.export import executorch_rewrite as rewrite

aten = torch.ops.aten
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
WINDOWS = list(itertools.product([(2, 2), (3, 2)], [(2, 2), (1, 2), (3, 1)], [(0, 0), (1, 1)], [(8, 8), (7, 9)]))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def same(mine: tuple[Any, ...], torchs: tuple[Any, ...]) -> None:
    for a, b in zip(mine, torchs, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


class TestMaxPool:
    @pytest.mark.parametrize(("size", "stride", "padding", "image"), WINDOWS)
    @pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
    @pytest.mark.parametrize("ceil", [False, True])
    def test_equals_torchs_where_values_tie(
        self, size: Any, stride: Any, padding: Any, image: Any, dilation: Any, ceil: bool
    ) -> None:
        x = torch.randint(0, 3, (3, 2, *image)).double()  # most windows hold their maximum several times
        window = (size, stride, padding, dilation, ceil)
        best, place = rewrite.max_pool2d(x, *window)
        expected, index = aten.max_pool2d_with_indices(x, *window)
        assert torch.equal(best, expected)
        gradient = randn(*best.shape)
        mine = rewrite.max_pool2d_backward(gradient, x, *window, place)
        same((mine,), (aten.max_pool2d_with_indices_backward(gradient, x, *window, index),))

    def test_nan_wins_as_in_torch(self) -> None:
        x = randn(2, 1, 4, 4)
        x[0, 0, 1, 1] = x[1, 0, 0, 0] = x[1, 0, 0, 1] = float("nan")
        best, place = rewrite.max_pool2d(x, (2, 2))
        expected, index = aten.max_pool2d_with_indices(x, (2, 2))
        torch.testing.assert_close(best, expected, equal_nan=True, **CLOSE)
        args = ((2, 2), (2, 2), (0, 0), (1, 1), False)
        gradient = randn(2, 1, 2, 2)
        mine = rewrite.max_pool2d_backward(gradient, x, *args, place)
        same((mine,), (aten.max_pool2d_with_indices_backward(gradient, x, *args, index),))


class TestAveragePool:
    @pytest.mark.parametrize(("size", "stride", "padding", "image"), WINDOWS)
    @pytest.mark.parametrize("ceil", [False, True])
    @pytest.mark.parametrize(("include_pad", "divisor"), [(True, None), (False, None), (True, 3)])
    def test_equals_torchs(
        self, size: Any, stride: Any, padding: Any, image: Any, ceil: bool, include_pad: bool, divisor: int | None
    ) -> None:
        x, rest = randn(3, 2, *image), (size, stride, padding, ceil, include_pad, divisor)
        mine = rewrite.avg_pool2d(x, *rest)
        same((mine,), (aten.avg_pool2d(x, *rest),))
        gradient = randn(*mine.shape)
        same(
            (rewrite.avg_pool2d_backward(gradient, x, *rest),),
            (aten.avg_pool2d_backward(gradient, x, *rest),),
        )

    def test_adaptive_equals_torchs_where_it_divides(self) -> None:
        x, gradient = randn(3, 2, 6, 8), randn(3, 2, 3, 2)
        same((rewrite.adaptive_avg_pool2d(x, (3, 2)),), (aten._adaptive_avg_pool2d(x, (3, 2)),))
        mine = rewrite.adaptive_avg_pool2d_backward(gradient, x)
        same((mine,), (aten._adaptive_avg_pool2d_backward(gradient, x),))

    def test_adaptive_is_left_alone_where_it_does_not_divide(self) -> None:
        assert rewrite.adaptive_avg_pool2d(randn(3, 2, 7, 8), (3, 2)) is NotImplemented


@pytest.mark.parametrize("padding_idx", [-1, 2])
def test_embedding_gradient_equals_torchs(padding_idx: int) -> None:
    indices, gradient = torch.tensor([[0, 2, 2], [1, 0, 2]]), randn(2, 3, 4)
    mine = rewrite.embedding_backward(gradient, indices, 5, padding_idx, False)
    same((mine,), (aten.embedding_dense_backward(gradient, indices, 5, padding_idx, False),))


class TestBatchNorm:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("shape", [(6, 4), (5, 4, 3), (5, 4, 3, 7)])
    def test_equals_torchs_running_statistics_too(self, training: bool, shape: tuple[int, ...]) -> None:
        x, weight, bias = randn(*shape) * 3 + 1, randn(4), randn(4)
        mean, var = randn(4), randn(4).square() + 0.1
        mean_2, var_2 = mean.clone(), var.clone()
        out, *saved = rewrite.batch_norm(x, weight, bias, mean, var, training, 0.1, 1e-5)
        expected, *kept = aten.native_batch_norm(x, weight, bias, mean_2, var_2, training, 0.1, 1e-5)
        same((out, mean, var), (expected, mean_2, var_2))
        gradient, mask = randn(*shape), [True] * 3
        mine = rewrite.batch_norm_backward(gradient, x, weight, mean, var, *saved, training, 1e-5, mask)
        same(mine, aten.native_batch_norm_backward(gradient, x, weight, mean_2, var_2, *kept, training, 1e-5, mask))

    def test_equals_torchs_without_weights_and_statistics(self) -> None:
        x = randn(5, 4, 3)
        out, _, _ = rewrite.batch_norm_no_stats(x, None, None, True, 0.1, 1e-5)
        same((out,), (torch.nn.functional.batch_norm(x, None, None, training=True),))

    def test_zero_variance_has_finite_gradients(self) -> None:
        x, weight = torch.ones(4, 2, dtype=torch.float64), randn(2)
        out, mean, inverse = rewrite.batch_norm(x, weight, randn(2), None, None, True, 0.1, 1e-5)
        parts = rewrite.batch_norm_backward(randn(4, 2), x, weight, None, None, mean, inverse, True, 1e-5, [True] * 3)
        assert all(bool(t.isfinite().all()) for t in (out, *parts) if t is not None)


class TestConvolution:
    @pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 4)])
    @pytest.mark.parametrize("stride", [[1, 1], [2, 1], [3, 2]])
    @pytest.mark.parametrize(("padding", "dilation"), [([0, 0], [1, 1]), ([1, 2], [1, 1]), ([1, 2], [2, 1])])
    @pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 6, 1), (4, 6, 2), (4, 4, 4), (4, 8, 4)])
    def test_equals_torchs(
        self, size: Any, stride: Any, padding: Any, dilation: Any, inputs: int, outputs: int, groups: int
    ) -> None:
        x, w, bias = randn(3, inputs, 12, 11), randn(outputs, inputs // groups, *size), randn(outputs)
        rest = (stride, padding, dilation, False, [0, 0], groups)
        mine = rewrite.convolution(x, w, bias, *rest)
        same((mine,), (aten.convolution(x, w, bias, *rest),))
        gradient = randn(*mine.shape)
        same(
            rewrite.convolution_backward(gradient, x, w, [outputs], *rest, [True] * 3),
            aten.convolution_backward(gradient, x, w, [outputs], *rest, [True] * 3),
        )

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_equals_torchs_over_time(self, groups: int) -> None:
        x, w = randn(3, 4, 13), randn(8, 4 // groups, 5)
        rest = ([2], [2], [1], False, [0], groups)
        mine = rewrite.convolution(x, w, None, *rest)
        same((mine,), (aten.convolution(x, w, None, *rest),))
        gradient = randn(*mine.shape)
        same(
            rewrite.convolution_backward(gradient, x, w, None, *rest, [True, True, False])[:2],
            aten.convolution_backward(gradient, x, w, None, *rest, [True, True, False])[:2],
        )

    def test_no_gradient_of_the_samples_where_none_is_asked_for(self) -> None:
        x, w, gradient = randn(3, 4, 6, 6), randn(2, 4, 3, 3), randn(3, 2, 4, 4)
        rest = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        assert rewrite.convolution_backward(gradient, x, w, None, *rest, [False, True, False])[0] is None


def test_every_own_rewrite_is_used() -> None:
    table = rewrite.decompositions()
    assert table[aten.convolution_backward.default] is rewrite.convolution_backward
    assert table[aten.max_pool2d_with_indices_backward.default] is rewrite.max_pool2d_backward
    assert table[aten.native_batch_norm_backward.default] is rewrite.batch_norm_backward
