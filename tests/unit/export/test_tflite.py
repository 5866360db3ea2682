import json
from pathlib import Path

import pytest
import torch
from compiled import CLASSES, IMAGE, through
from torch import nn

from fedagg_edge.errors import ExportError
from fedagg_edge.export.tflite import compile_module, export_tflite
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.torch import TorchLearner


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    model = through(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.25)))
    report = export_tflite(model, IMAGE, CLASSES, tmp_path / "m.tflite")
    file = tflite_file.load(tmp_path / "m.tflite")
    reference = TorchLearner(model).state()
    assert file.table == reference.table
    assert (file.weights == reference.weights).all()
    assert (file.sample_shape, file.classes) == (IMAGE, CLASSES)
    assert [(m.shape, m.keep) for m in file.masks] == [((4, 8, 8), 0.75)]
    assert not file.rows_apart
    assert file.report == json.loads(json.dumps(report.as_json()))
    assert (tmp_path / "m.tflite").stat().st_mode & 0o777 == 0o644


def test_the_same_model_makes_the_same_file() -> None:
    torch.manual_seed(0)
    model = through(nn.ReLU())
    assert compile_module(model, IMAGE, CLASSES)[0] == compile_module(model, IMAGE, CLASSES)[0]


def test_nothing_is_written_where_it_fails(tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        export_tflite(through(torch.erfinv), IMAGE, CLASSES, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExportError, match="cannot write the training file"):
        export_tflite(through(nn.ReLU()), IMAGE, CLASSES, tmp_path / "no" / "m.tflite")


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ExportError, match=r"no parameters|cannot be recorded"):
        compile_module(nn.Flatten(), (5,), 5)
