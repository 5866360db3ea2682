"""The report's JSON: a round trip, and a refusal that names the field."""

from __future__ import annotations

import json

import pytest
from autoencoder.making import AUDIT, make_artefact

from fedagg_edge.autoencoder.report import Audit, Report
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


def test_an_audit_keeps_every_figure_and_names_a_mistyped_one() -> None:
    assert Audit.from_json(json.loads(json.dumps(AUDIT.as_json()))) == AUDIT
    with pytest.raises(ArtefactError, match="audit: got None for attacker_psnr_db, expected float"):
        Audit.from_json({k: v for k, v in AUDIT.as_json().items() if k != "attacker_psnr_db"})


def test_leakage_is_the_better_decoder_s() -> None:
    assert (AUDIT.psnr_db, AUDIT.ssim) == (21.5, 0.25)
