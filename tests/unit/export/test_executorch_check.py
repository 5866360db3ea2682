"""The check notices a program that does not learn as its module. Needs ExecuTorch."""

from __future__ import annotations

import pytest
import torch
from exported import dense, exported, image, random

from fedagg_edge.errors import ExportError, LearnerError
from fedagg_edge.export.executorch_check import check_program

pytest.importorskip("executorch", reason="ExecuTorch is not installed")


@pytest.mark.parametrize(("name", "make"), [("dense", dense), ("image", image), ("random", random)])
def test_a_right_program_passes_dropout_too(name: str, make: object) -> None:
    report = check_program(make(), exported(name))  # type: ignore[operator]
    assert 0 <= report.weights <= 1e-5
    assert report.runtime.startswith("executorch ")


def test_other_weights_and_another_slope_are_noticed() -> None:
    other = dense()
    with torch.no_grad():
        other[0].weight[0, 0] += 1e-3  # type: ignore[index]
    with pytest.raises(ExportError, match=r"differ from torch's by .* nothing was written"):
        check_program(other, exported("dense"))
    module = dense()
    module[1].register_full_backward_hook(lambda _, inputs, __: (inputs[0] * 1.001,))  # type: ignore[index]
    with pytest.raises(ExportError, match="differ from torch's"):
        check_program(module, exported("dense"))


def test_a_step_that_fails_is_an_error_of_the_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise LearnerError("no such kernel")

    monkeypatch.setattr("fedagg_edge.learners.executorch_runtime.Program.run", fails)
    with pytest.raises(ExportError, match="cannot take a step: no such kernel"):
        check_program(dense(), exported("dense"))
