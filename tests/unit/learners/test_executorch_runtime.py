"""Without ExecuTorch: a clear error. With it: a program runs, and its failures are ours."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners import executorch_runtime


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings._C", None)
    for use in (executorch_runtime.version, executorch_runtime.operators, lambda: executorch_runtime.Program(b"")):
        with pytest.raises(LearnerError, match=r"pip install 'fedagg-edge\[executorch\]' \(it needs numpy >= 2"):
            use()


def test_the_exporter_is_not_imported() -> None:
    pytest.importorskip("executorch", reason="ExecuTorch is not installed")
    script = (
        "import sys, fedagg_edge.learners.executorch_runtime as r; r.version(); print('executorch.exir' in sys.modules)"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_has_operators_and_refuses_what_is_no_program() -> None:
    pytest.importorskip("executorch", reason="ExecuTorch is not installed")
    assert {"aten::mm.out", "aten::convolution_backward.out"} <= executorch_runtime.operators()
    with pytest.raises(LearnerError, match=r"ExecuTorch \S+ cannot load the program"):
        executorch_runtime.Program(bytes(1000)).run("infer", [torch.zeros(1)])
    importlib.import_module("executorch.extension.pybindings._C")  # alive
