from pathlib import Path

import pytest
import torch
from compiled import CLASSES, IMAGE, through
from torch import Tensor, nn

from fedagg_edge.errors import ExportError
from fedagg_edge.export.tflite import compile_module


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(torch.tanh(x))  # no runtime has it


def test_an_unknown_operator_is_named_with_its_submodule_and_line() -> None:
    with pytest.raises(ExportError) as error:
        compile_module(through(Odd()), IMAGE, CLASSES)
    message = str(error.value)
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(i for i, text in enumerate(source, 1) if "no runtime has it" in text)
    assert message.startswith(f"operator aten.erfinv.default in submodule 'function' at test_lower.py:{line}: ")
    assert "docs/on-device.md" in message


def test_an_unknown_operator_of_the_backward_pass_is_named_with_its_submodule() -> None:
    class Gradual(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.softplus(x)

    with pytest.raises(ExportError, match=r"operator aten\.softplus.* in submodule 'function' at test_lower\.py"):
        compile_module(through(Gradual()), IMAGE, CLASSES)
