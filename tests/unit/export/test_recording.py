import pytest
import torch
from torch import nn
from torch.fx import traceback as fx_traceback
from torch.fx.experimental.proxy_tensor import make_fx

from fedagg_edge.export.recording import named_modules, user_line


def test_an_operator_knows_its_submodule_also_after_a_forward_that_raised() -> None:
    class Raising(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"), named_modules(nn.Sequential(Raising())) as _, torch.no_grad():
        nn.Sequential(Raising())(torch.ones(1))
    module = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    with named_modules(module), fx_traceback.preserve_node_meta():
        graph = make_fx(module)(torch.ones(2)).graph
    found = {str(n.target): n.meta.get("custom", {}).get("module") for n in graph.nodes if n.op == "call_function"}
    assert found == {"aten.relu.default": "0", "aten.tanh.default": "1.0"}


def test_the_innermost_line_that_is_not_torchs() -> None:
    own = torch.__file__
    stack = (
        f'File "/a/model.py", line 3, in f\n  x\nFile "/b/inner.py", line 7, in g\n  y\nFile "{own}", line 9, in h\n'
    )
    assert user_line(stack) == "inner.py:7"
    assert user_line(f'File "{own}", line 9, in h') == "__init__.py:9"
    assert user_line("") == ""
