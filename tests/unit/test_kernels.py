"""The surface of fedagg_edge.kernels; what it computes is tested for every instruction set in tests/kernels."""

import pickle

import numpy as np
import pytest

from fedagg_edge import kernels


def test_every_exported_name_exists_and_is_documented() -> None:
    for name in kernels.__all__:
        value = getattr(kernels, name)
        assert value.__doc__ or name in {"AggregationMethod", "Logits"}, name


def test_distill_loss_is_a_tuple_of_four_with_names() -> None:
    loss, ce, kl, gradient_NC = got = kernels.distill_loss(np.zeros((2, 2), np.float32), None, np.array([0, 1]))
    assert (got.loss, got.ce, got.kl) == (loss, ce, kl) == (pytest.approx(np.log(2)), pytest.approx(np.log(2)), 0.0)
    np.testing.assert_allclose(got.gradient_NC, [[-0.25, 0.25], [0.25, -0.25]], rtol=1e-6)
    assert gradient_NC is got.gradient_NC


def test_quantised_logits_pickle() -> None:
    quantised = kernels.quantise_logits(np.array([[1.0, -2.0]], np.float32))
    copy = pickle.loads(pickle.dumps(quantised))  # noqa: S301
    np.testing.assert_array_equal(kernels.dequantise_logits(copy), kernels.dequantise_logits(quantised))
    with pytest.raises(AttributeError):
        quantised.scale_N = None  # type: ignore[assignment, misc]
