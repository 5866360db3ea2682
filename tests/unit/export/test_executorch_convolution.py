"""Convolutions are torch's, compared in float64. ExecuTorch itself is not needed."""
# ruff: noqa: PLR0917  # as many arguments as torch's operators have

from __future__ import annotations

from typing import Any

import pytest
from rewrites import aten, randn, same

from fedagg_edge.export import executorch_convolution as convolution

pytestmark = pytest.mark.usefixtures("seeded")


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
        mine = convolution.convolution(x, w, bias, *rest)
        same((mine,), (aten.convolution(x, w, bias, *rest),))
        gradient = randn(*mine.shape)
        same(
            convolution.convolution_backward(gradient, x, w, [outputs], *rest, [True] * 3),
            aten.convolution_backward(gradient, x, w, [outputs], *rest, [True] * 3),
        )

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_equals_torchs_over_time(self, groups: int) -> None:
        x, w = randn(3, 4, 13), randn(8, 4 // groups, 5)
        rest = ([2], [2], [1], False, [0], groups)
        mine = convolution.convolution(x, w, None, *rest)
        same((mine,), (aten.convolution(x, w, None, *rest),))
        gradient = randn(*mine.shape)
        same(
            convolution.convolution_backward(gradient, x, w, None, *rest, [True, True, False])[:2],
            aten.convolution_backward(gradient, x, w, None, *rest, [True, True, False])[:2],
        )

    def test_no_gradient_of_the_samples_where_none_is_asked_for(self) -> None:
        x, w, gradient = randn(3, 4, 6, 6), randn(2, 4, 3, 3), randn(3, 2, 4, 4)
        rest = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        assert convolution.convolution_backward(gradient, x, w, None, *rest, [False, True, False])[0] is None
