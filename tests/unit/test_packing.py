import numpy as np
import pytest

from fedagg_edge.packing import pack, unpack
from fedagg_edge.records import LogitsFormat


@pytest.mark.parametrize(
    ("form", "tolerance", "bytes_each"),
    [(LogitsFormat.F32, 0, 4), (LogitsFormat.F16, 2e-3, 2), (LogitsFormat.INT8, 2e-2, 1)],
)
def test_logits_come_back_within_the_formats_step(form, tolerance, bytes_each):
    logits_NC = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    packed = pack(logits_NC, form)
    assert packed.format is form
    assert packed.nbytes == 70 * bytes_each + (28 if form is LogitsFormat.INT8 else 0)
    back = unpack(packed)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, logits_NC, atol=tolerance)


def test_f32_is_not_copied():
    logits_NC = np.zeros((2, 3), np.float32)
    assert unpack(pack(logits_NC, LogitsFormat.F32)) is logits_NC
