"""The code layout's checks and its JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedagg_edge.autoencoder.layout import UINT8_AFFINE, CodeLayout, layout_from
from fedagg_edge.errors import ArtefactError


def layout(**changes: object) -> CodeLayout:
    fields: dict[str, object] = {
        "name": UINT8_AFFINE,
        "embedding_shape": (2, 3, 4),
        "low_E": np.array([-1.0, 0.1], np.float32),
        "step_E": np.array([0.5, 0.3], np.float32),
    }
    return CodeLayout(**(fields | changes))  # type: ignore[arg-type]


def test_low_and_step_are_spread_over_the_flattened_embedding() -> None:
    low_D, step_D = layout().per_value()
    assert low_D.dtype == step_D.dtype == np.float32
    np.testing.assert_array_equal(low_D.reshape(2, 3, 4)[:, 1, 2], np.array([-1.0, 0.1], np.float32))
    np.testing.assert_array_equal(step_D[:12], np.full(12, 0.5, np.float32))
    assert layout().sample_bytes == layout().values == 24


def test_json_keeps_every_bit() -> None:
    before = layout()
    after = layout_from(json.loads(json.dumps(before.as_json())))
    assert after.embedding_shape == before.embedding_shape
    np.testing.assert_array_equal(after.low_E, before.low_E)
    np.testing.assert_array_equal(after.step_E, before.step_E)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "uint8-affine-per-chanel"}, "did you mean"),
        ({"low_E": np.zeros(3, np.float32)}, r"expected float32 \(2,\)"),
        ({"step_E": np.ones(2)}, "got float64"),
        ({"step_E": np.array([1, 0], np.float32)}, "above 0"),
        ({"low_E": np.array([np.nan, 0], np.float32)}, "not finite"),
    ],
)
def test_wrong_layouts_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        layout(**changes)


def test_a_byte_count_that_contradicts_the_shape_is_refused() -> None:
    with pytest.raises(ArtefactError, match="makes 24"):
        layout_from(layout().as_json() | {"sample_bytes": 23})
