import pytest
import torch
from compiled import assert_learns_as_torch, through
from torch import nn
from torch.nn import functional as F

from fedagg_edge.errors import ExportError
from fedagg_edge.export.tflite import compile_module

FUNCTIONS = {
    "relu": torch.relu,
    "relu in place": nn.ReLU(inplace=True),
    "relu6": lambda x: F.relu6(8 * x),
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardswish": lambda x: F.hardswish(4 * x),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp and log": lambda x: torch.log(torch.exp(x) + 1.0),
    "square root": lambda x: torch.sqrt(x * x + 1.0),
    "inverse": lambda x: 1.0 / (x * x + 2.0),
    "powers": lambda x: x**2 + x**3 + x**4,
    "clamp": lambda x: torch.clamp(x, -0.2, 0.3),
    "absolute": torch.abs,
    "maximum": lambda x: torch.maximum(x, -0.5 * x),
    "where": lambda x: torch.where(x > 0.1, x, 0.5 * x - 1.0),
    "both": lambda x: torch.where((x > -0.3) & (x < 0.3), x, -x),
    "sums of sums": lambda x: 3 - x + torch.add(x, x * x, alpha=2),
    "leaky": F.leaky_relu,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_gradients_are_torchs(name: str) -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(FUNCTIONS[name]))


def test_gelu_of_exact_zeros_has_torchs_gradient() -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(lambda x: F.gelu(torch.relu(x))))


def test_a_power_that_has_no_operator_is_refused() -> None:
    with pytest.raises(ExportError, match=r"operator aten\.pow\.Tensor_Scalar .* got exponent 1\.7"):
        compile_module(through(lambda x: torch.relu(x) ** 1.7), (2, 8, 8), 5)
