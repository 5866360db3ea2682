"""Batch norm is torch's, compared in float64. ExecuTorch itself is not needed."""
# as many arguments as torch's operators have

from __future__ import annotations

import pytest
import torch
from rewrites import aten, randn, same

from fedagg_edge.export import executorch_normalisation as normalisation

pytestmark = pytest.mark.usefixtures("seeded")


class TestBatchNorm:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("shape", [(6, 4), (5, 4, 3), (5, 4, 3, 7)])
    def test_equals_torchs_running_statistics_too(self, training: bool, shape: tuple[int, ...]) -> None:
        x, weight, bias = randn(*shape) * 3 + 1, randn(4), randn(4)
        mean, var = randn(4), randn(4).square() + 0.1
        mean_2, var_2 = mean.clone(), var.clone()
        out, *saved = normalisation.batch_norm(x, weight, bias, mean, var, training, 0.1, 1e-5)
        expected, *kept = aten.native_batch_norm(x, weight, bias, mean_2, var_2, training, 0.1, 1e-5)
        same((out, mean, var), (expected, mean_2, var_2))
        gradient, mask = randn(*shape), [True] * 3
        mine = normalisation.batch_norm_backward(gradient, x, weight, mean, var, *saved, training, 1e-5, mask)
        same(mine, aten.native_batch_norm_backward(gradient, x, weight, mean_2, var_2, *kept, training, 1e-5, mask))

    def test_equals_torchs_without_weights_and_statistics(self) -> None:
        x = randn(5, 4, 3)
        out, _, _ = normalisation.batch_norm_no_stats(x, None, None, True, 0.1, 1e-5)
        same((out,), (torch.nn.functional.batch_norm(x, None, None, training=True),))

    def test_zero_variance_has_finite_gradients(self) -> None:
        x, weight = torch.ones(4, 2, dtype=torch.float64), randn(2)
        out, mean, inverse = normalisation.batch_norm(x, weight, randn(2), None, None, True, 0.1, 1e-5)
        parts = normalisation.batch_norm_backward(
            randn(4, 2), x, weight, None, None, mean, inverse, True, 1e-5, [True] * 3
        )
        assert all(bool(t.isfinite().all()) for t in (out, *parts) if t is not None)
