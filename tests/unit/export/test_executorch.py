"""Exporting to ExecuTorch: what comes out learns as torch does, what cannot is refused by name. Needs ExecuTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import CLASSES, DENSE, IMAGE, dense, exported, image
from torch import Tensor, nn

from fedagg_edge.cli.main import main
from fedagg_edge.errors import ExportError, LearnerError
from fedagg_edge.export.executorch import compile_program, export_executorch
from fedagg_edge.learners import executorch_file, executorch_runtime

pytest.importorskip("executorch", reason="ExecuTorch is not installed")

PARTS: dict[str, tuple[tuple[int, ...], list[nn.Module]]] = {
    "depthwise": ((2, 5, 5), [nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.Hardswish(), nn.Conv2d(4, 4, 1)]),
    "time": ((2, 12), [nn.Conv1d(2, 4, 5, padding=2), nn.BatchNorm1d(4), nn.GELU(), nn.MaxPool1d(3, 2, 1)]),
    "norms": ((4, 4, 4), [nn.GroupNorm(2, 4), nn.SiLU(), nn.AvgPool2d(2), nn.LayerNorm([4, 2, 2]), nn.ReLU6()]),
    "pools": ((2, 6, 6), [nn.Conv2d(2, 3, 3), nn.MaxPool2d(3, 1), nn.AdaptiveAvgPool2d(1)]),
}


def model(shape: tuple[int, ...], parts: list[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(*parts, nn.Flatten())
    with torch.no_grad():
        size = body(torch.rand(2, *shape)).shape[1]
    return nn.Sequential(body, nn.Linear(size, CLASSES))


@pytest.mark.parametrize("name", PARTS)
def test_layers_pass_the_check(name: str) -> None:
    shape, parts = PARTS[name]
    _, report = compile_program(model(shape, parts), shape, CLASSES, rows=8)
    assert report.weights <= 1e-5
    assert report.logits <= 1e-5


class Embedded(nn.Module):
    """Looks up rows of a table by the samples' values."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(4, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.table((x * 3).long()).mean(1))  # type: ignore[no-any-return]


def test_embedding_lookup() -> None:
    assert compile_program(Embedded(), (6,), CLASSES, rows=8)[1].weights <= 1e-5


class Applied(nn.Linear):
    """A linear layer and a function."""

    function: Any = staticmethod(torch.lgamma)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(super().forward(x))  # type: ignore[no-any-return]


def test_an_operator_that_the_runtime_lacks_is_named_with_its_place() -> None:
    with pytest.raises(
        ExportError, match=r"operator aten.lgamma.default in the model itself at test_executorch.py:\d+"
    ):
        compile_program(Applied(6, CLASSES), DENSE, CLASSES)


class Tied(nn.Module):
    """Two layers with one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.b(torch.relu(self.a(x)))))  # type: ignore[no-any-return]


def test_a_shared_matrix_is_trained_once() -> None:
    content, report = compile_program(Tied(), DENSE, CLASSES, rows=8)
    assert report.weights <= 1e-5
    assert [e.name for e in executorch_file.loads(content).table].count("b.weight") == 0


def test_nothing_to_train_and_tiny_batches_are_refused() -> None:
    with pytest.raises(ExportError, match="no parameters to train"):
        compile_program(nn.Flatten(), (CLASSES,), CLASSES)
    with pytest.raises(ExportError, match="got 2, expected at least 3"):
        compile_program(dense(), DENSE, CLASSES, rows=2)


def test_without_executorch_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        raise LearnerError("not installed")

    monkeypatch.setattr(executorch_runtime, "version", absent)
    with pytest.raises(LearnerError, match="not installed"):
        compile_program(dense(), DENSE, CLASSES)


def test_a_file_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    module = dense()
    report = export_executorch(module, DENSE, CLASSES, path, rows=8)
    file = executorch_file.load(path)
    assert file.report == report.as_json()
    assert json.loads(json.dumps(file.report))["runtime"].startswith("executorch 1.")
    assert (file.sample_shape, file.classes, file.rows) == (DENSE, CLASSES, 8)
    flat = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()
    np.testing.assert_array_equal(file.weights, flat)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pte"]


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = exported("dense")
    monkeypatch.setattr("fedagg_edge.export.executorch.compile_program", lambda *_, **__: (content, None))
    with pytest.raises(ExportError, match="cannot write the training program"):
        export_executorch(dense(), DENSE, CLASSES, tmp_path / "none" / "model.pte")


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.pte"
    arguments = ["--sample-shape", "1", "2", "2", "--classes", "3", "--options", '{"hidden": [4]}', "--json"]
    assert main(["export", "mlp", "--to", "executorch", "--out", str(path), *arguments]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["bytes"] == path.stat().st_size
    assert said["weights"] < 1e-5
    assert executorch_file.load(path).classes == CLASSES


def test_the_command_refuses_an_autoencoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "a.safetensors", "--to", "executorch", "--out", str(tmp_path / "m.pte")]) == 1
    assert "becomes a .tflite file only" in capsys.readouterr().err


def test_a_file_says_what_its_forward_method_gives() -> None:
    about, _ = executorch_file._parts(exported("image"))
    assert about["output_dtypes"][:4] == ["float32", "float32", "float32", "int64"]  # logits, batch norm's figures
    assert set(about["output_dtypes"][4:]) == {"float32", "uint8"}


def test_an_older_file_whose_masks_are_booleans_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedagg_edge.export.executorch_graph._pack_masks", lambda *_: None)
    content, report = compile_program(image(), IMAGE, CLASSES, rows=8)
    assert b'"bool"' in content
    assert report.weights <= 1e-5  # of the step that ExecutorchLearner takes
