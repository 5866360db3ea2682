"""The bounds of docs/kernels.md for every row, on a board: tests/kernels/test_every_row.py without torch.

Twice torch's own error bounds the reverse gradient; it was measured on x86-64 by make_fixtures.py.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TORCH = json.loads((HERE / "fixtures" / "torch_reverse.json").read_text())

spec = importlib.util.spec_from_file_location("kernel_accuracy", HERE.parents[1] / "benchmarks" / "kernel_accuracy.py")
assert spec is not None
assert spec.loader is not None
accuracy = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = accuracy  # its dataclasses look themselves up there
spec.loader.exec_module(accuracy)


@pytest.mark.parametrize("trial", TORCH)
def test_every_row_keeps_its_bound_on_the_instruction_set_in_use(trial):
    case = accuracy.draw(0, int(trial))
    allowed = accuracy.reverse_gradient_allowed(case, TORCH[trial])
    shares = accuracy.shares(case, accuracy.exact(case), allowed)
    assert {name: share for name, share in shares.items() if not share <= 1} == {}
