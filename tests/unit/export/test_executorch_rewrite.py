"""The other rewrites are torch's operators, compared in float64. ExecuTorch itself is not needed."""

from __future__ import annotations

import pytest
import torch
from rewrites import aten, randn, same

from fedagg_edge.export import executorch_convolution as convolution
from fedagg_edge.export import executorch_normalisation as normalisation
from fedagg_edge.export import executorch_pooling as pooling
from fedagg_edge.export import executorch_rewrite as rewrite

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("padding_idx", [-1, 2])
def test_embedding_gradient_equals_torchs(padding_idx: int) -> None:
    indices, gradient = torch.tensor([[0, 2, 2], [1, 0, 2]]), randn(2, 3, 4)
    mine = rewrite.embedding_backward(gradient, indices, 5, padding_idx, False)
    same((mine,), (aten.embedding_dense_backward(gradient, indices, 5, padding_idx, False),))


def test_every_own_rewrite_is_used() -> None:
    table = rewrite.decompositions()
    assert table[aten.convolution_backward.default] is convolution.convolution_backward
    assert table[aten.max_pool2d_with_indices_backward.default] is pooling.max_pool2d_backward
    assert table[aten.native_batch_norm_backward.default] is normalisation.batch_norm_backward
