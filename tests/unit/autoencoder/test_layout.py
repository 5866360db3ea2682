"""The code layout's checks and its JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from autoencoder.making import make_table_layout

from fedagg_edge.autoencoder.layout import UINT8_AFFINE, CodeLayout, TableLayout, layout_from
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


def test_every_value_becomes_its_nearest_level() -> None:
    table = make_table_layout((2, 2, 2))
    z_ND = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    back_ND = table.decode(table.encode(z_ND))
    for place in range(8):
        bits = int(table.bits_D[place])
        if bits == 0:
            np.testing.assert_array_equal(back_ND[:, place], 0)
            continue
        level = table.tables[bits].astype(np.float64) * float(table.scale_D[place])
        nearest = level[np.abs(z_ND[:, place, None] - level).argmin(1)]
        np.testing.assert_allclose(back_ND[:, place], nearest, rtol=1e-6)


def test_bits_are_packed_into_as_few_bytes_as_they_fill() -> None:
    table = make_table_layout((2, 2, 2))
    assert table.bits_D.sum() == 9
    assert table.sample_bytes == 2
    code_NB = table.encode(np.zeros((3, 8), np.float32))
    assert (code_NB.dtype, code_NB.shape) == (np.uint8, (3, 2))
    any_bytes = np.random.default_rng(1).integers(0, 256, (20, 2)).astype(np.uint8)
    assert np.isfinite(table.decode(any_bytes)).all()


def test_json_of_a_table_layout_keeps_every_bit() -> None:
    before = make_table_layout((2, 3, 4))
    after = layout_from(json.loads(json.dumps(before.as_json())))
    assert isinstance(after, TableLayout)
    assert (after.embedding_shape, after.sample_bytes) == ((2, 3, 4), before.sample_bytes)
    np.testing.assert_array_equal(after.bits_D, before.bits_D)
    np.testing.assert_array_equal(after.scale_D, before.scale_D)
    for bits, table in before.tables.items():
        np.testing.assert_array_equal(after.tables[bits], table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": "9" * 8, "scale": [1.0] * 8, "tables": {"9": [0.0] * 512}}, "0 to 8"),
        ({"bits": "21", "scale": [1.0] * 2}, "expected uint8"),
        ({"scale": [1.0] * 5}, "got 5 scales, expected 6"),
        ({"bits": "0" * 8, "scale": [], "tables": {}}, "0 bits for every value"),
        ({"tables": {"1": [-1.0, 1.0]}}, "expected those that values have"),
        ({"tables": {"1": [-1.0, 1.0], "2": [0.0, 1.0]}}, "4 finite float32 levels"),
        ({"tables": {"1": [1.0, -1.0], "2": [0.0, 1.0, 2.0, 3.0]}}, "do not rise"),
        ({"scale": [0.0] * 6}, "above 0"),
        ({"sample_bytes": 3}, "makes 2"),
    ],
)
def test_wrong_tables_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        layout_from(make_table_layout((2, 2, 2)).as_json() | changes)
