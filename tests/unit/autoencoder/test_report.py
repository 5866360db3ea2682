"""The report's JSON: a round trip, and a refusal that names the field."""

from __future__ import annotations

import json

import pytest
from autoencoder.making import make_artefact

from fedagg_edge.autoencoder.report import Report
from fedagg_edge.errors import ArtefactError

REPORT = make_artefact().report


def test_json_keeps_every_figure() -> None:
    assert Report.from_json(json.loads(json.dumps(REPORT.as_json()))) == REPORT


@pytest.mark.parametrize(
    ("field", "value"), [("psnr_db", None), ("epochs", 1.5), ("seed", True), ("trained_on", 3), ("samples", "12")]
)
def test_a_mistyped_figure_is_named(field: str, value: object) -> None:
    with pytest.raises(ArtefactError, match=f"for {field}, expected"):
        Report.from_json(REPORT.as_json() | {field: value})
