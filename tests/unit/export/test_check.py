import numpy as np
import pytest
import torch
from compiled import CLASSES, IMAGE, small_file, through
from torch import nn

from fedagg_edge.errors import ExportError
from fedagg_edge.export.check import check_file, rows_apart
from fedagg_edge.export.tflite import compile_module


def test_a_file_of_other_weights_fails_the_check() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(128, 7), nn.ReLU(), nn.Linear(7, CLASSES))
    with pytest.raises(ExportError, match=r"weights differ from torch's by .* nothing was written"):
        check_file(other, small_file())


def test_a_wrong_function_fails_the_check() -> None:
    torch.manual_seed(0)
    tanh = nn.Sequential(nn.Flatten(), nn.Linear(128, 7), nn.Tanh(), nn.Linear(7, CLASSES))
    with pytest.raises(ExportError, match="expected at most 1e-05"):
        check_file(tanh, small_file())


def test_the_report_says_what_was_compared() -> None:
    report = compile_module(through(nn.ReLU()), IMAGE, CLASSES)[1]
    assert report.runtime.startswith("ai-edge-litert 2")
    assert 0 <= report.weights < 1e-5
    assert np.isfinite(report.logits)


@pytest.mark.parametrize(
    ("function", "apart"),
    [
        (nn.LayerNorm(8), True),
        (nn.Dropout(), True),
        (nn.BatchNorm2d(4), False),
        (nn.BatchNorm2d(4, track_running_stats=False), False),
    ],
)
def test_rows_that_influence_one_another_are_found(function: nn.Module, apart: bool) -> None:
    assert rows_apart(compile_module(through(function), IMAGE, CLASSES)[0]) is apart
