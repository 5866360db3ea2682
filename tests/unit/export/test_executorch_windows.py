"""Windows as slices, against torch's unfold and by the rule that `spread` is the transpose of `take`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rewrites import WINDOWS, randn

from fedagg_edge.export.executorch_windows import lay_windows, pad_around, unpad

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize(("size", "stride", "padding", "image"), WINDOWS)
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_what_windows_see_and_its_transpose(size: Any, stride: Any, padding: Any, image: Any, dilation: Any) -> None:
    x = randn(2, 3, *image)
    windows = lay_windows(x, size, stride, padding, dilation, ceil=False)
    seen = torch.stack(windows.take(pad_around(x, windows, padding)), 2)  # (N, C, K, *out)
    expected = torch.nn.functional.unfold(x, size, dilation, padding, stride)
    assert torch.equal(seen.reshape(2, 3 * size[0] * size[1], -1), expected)
    given = randn(*seen.shape)
    back = unpad(windows.spread(list(given.unbind(2))), image, padding)
    torch.testing.assert_close((back * x).sum(), (given * seen).sum(), rtol=1e-12, atol=1e-12)
