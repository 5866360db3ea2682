"""Pooling is torch's, compared in float64. ExecuTorch itself is not needed."""
# ruff: noqa: PLR0917  # as many arguments as torch's operators have

from __future__ import annotations

from typing import Any

import pytest
import torch
from rewrites import CLOSE, WINDOWS, aten, randn, same

from fedagg_edge.export import executorch_pooling as pooling

pytestmark = pytest.mark.usefixtures("seeded")


class TestMaxPool:
    @pytest.mark.parametrize(("size", "stride", "padding", "image"), WINDOWS)
    @pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
    @pytest.mark.parametrize("ceil", [False, True])
    def test_equals_torchs_where_values_tie(
        self, size: Any, stride: Any, padding: Any, image: Any, dilation: Any, ceil: bool
    ) -> None:
        x = torch.randint(0, 3, (3, 2, *image)).double()  # most windows hold their maximum several times
        window = (size, stride, padding, dilation, ceil)
        best, place = pooling.max_pool2d(x, *window)
        expected, index = aten.max_pool2d_with_indices(x, *window)
        assert torch.equal(best, expected)
        gradient = randn(*best.shape)
        mine = pooling.max_pool2d_backward(gradient, x, *window, place)
        same((mine,), (aten.max_pool2d_with_indices_backward(gradient, x, *window, index),))

    def test_nan_wins_as_in_torch(self) -> None:
        x = randn(2, 1, 4, 4)
        x[0, 0, 1, 1] = x[1, 0, 0, 0] = x[1, 0, 0, 1] = float("nan")
        best, place = pooling.max_pool2d(x, (2, 2))
        expected, index = aten.max_pool2d_with_indices(x, (2, 2))
        torch.testing.assert_close(best, expected, equal_nan=True, **CLOSE)
        args = ((2, 2), (2, 2), (0, 0), (1, 1), False)
        gradient = randn(2, 1, 2, 2)
        mine = pooling.max_pool2d_backward(gradient, x, *args, place)
        same((mine,), (aten.max_pool2d_with_indices_backward(gradient, x, *args, index),))


class TestAveragePool:
    @pytest.mark.parametrize(("size", "stride", "padding", "image"), WINDOWS)
    @pytest.mark.parametrize("ceil", [False, True])
    @pytest.mark.parametrize(("include_pad", "divisor"), [(True, None), (False, None), (True, 3)])
    def test_equals_torchs(
        self, size: Any, stride: Any, padding: Any, image: Any, ceil: bool, include_pad: bool, divisor: int | None
    ) -> None:
        x, rest = randn(3, 2, *image), (size, stride, padding, ceil, include_pad, divisor)
        mine = pooling.avg_pool2d(x, *rest)
        same((mine,), (aten.avg_pool2d(x, *rest),))
        gradient = randn(*mine.shape)
        same(
            (pooling.avg_pool2d_backward(gradient, x, *rest),),
            (aten.avg_pool2d_backward(gradient, x, *rest),),
        )

    def test_adaptive_equals_torchs_where_it_divides(self) -> None:
        x, gradient = randn(3, 2, 6, 8), randn(3, 2, 3, 2)
        same((pooling.adaptive_avg_pool2d(x, (3, 2)),), (aten._adaptive_avg_pool2d(x, (3, 2)),))
        mine = pooling.adaptive_avg_pool2d_backward(gradient, x)
        same((mine,), (aten._adaptive_avg_pool2d_backward(gradient, x),))

    def test_adaptive_is_left_alone_where_it_does_not_divide(self) -> None:
        assert pooling.adaptive_avg_pool2d(randn(3, 2, 7, 8), (3, 2)) is NotImplemented
