"""The recorded graphs compute what the module and autograd do, at every batch size. ExecuTorch itself is not needed."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedagg_edge.errors import ExportError
from fedagg_edge.export.executorch_graph import Graphs, origin, record

CLASSES = 3


class Small(nn.Module):
    """Batch norm, max pooling, dropout, a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.conv(x)))
        h = nn.functional.max_pool2d(h + x.mean(1, keepdim=True), 2)
        return self.last(nn.functional.dropout(h.flatten(1), 0.25, self.training))  # type: ignore[no-any-return]


def tensors(module: nn.Module, graphs: Graphs) -> list[Tensor]:
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return [named[n].detach().clone() for n in graphs.names]


def differentiated(graphs: Graphs, state: list[Tensor], x: Tensor, upstream: Tensor, noise: Tensor) -> list[Any]:
    """Logits, new buffers, gradients, as the learner gets them."""
    outputs = graphs.forward(*state, *([noise] if graphs.noise_columns else []), x)
    count = len(graphs.names) - sum(not n.startswith(("conv.", "last.", "norm.w", "norm.b")) for n in graphs.names)
    given: dict[str, Tensor] = {"x": x, "noise": noise, "upstream": upstream}
    given |= {f"parameter:{i}": t for i, t in enumerate(state[:count])}
    given |= {f"buffer:{i}": t for i, t in enumerate(state[count:])}
    given |= {f"output:{i}": t.contiguous() for i, t in enumerate(outputs)}
    changed = dict(zip(graphs.changed_buffers, outputs[1:], strict=False))
    return [outputs[0], changed, graphs.backward(*(given[n] for n in graphs.backward_inputs))]


@pytest.fixture(scope="module")
def small() -> tuple[Small, Graphs]:
    torch.manual_seed(0)
    module = Small()
    return module, record(module, (2, 4, 4), CLASSES)


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_graphs_follow_torch_at_every_batch_size(small: tuple[Small, Graphs], rows: int) -> None:
    module, graphs = copy.deepcopy(small[0]), small[1]
    x, upstream = torch.rand(rows, 2, 4, 4), torch.randn(rows, CLASSES)
    state = tensors(module, graphs)
    torch.testing.assert_close(graphs.infer(*state, x)[0], module.eval()(x))
    ones = torch.zeros(rows, graphs.noise_columns)  # below every probability: dropout keeps all
    logits, changed, gradients = differentiated(graphs, state, x, upstream, ones)
    module.train()
    h = nn.functional.max_pool2d(torch.relu(module.norm(module.conv(x))) + x.mean(1, keepdim=True), 2)
    expected = module.last(h.flatten(1) / 0.75)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(
        list(gradients), list(torch.autograd.grad(expected, list(module.parameters()), upstream))
    )
    after = tensors(module, graphs)
    assert [graphs.names[6 + i] for i in changed] == [
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    ]
    for i, value in changed.items():
        torch.testing.assert_close(value, after[6 + i])


def test_noise_decides_what_dropout_keeps(small: tuple[Small, Graphs]) -> None:
    module, graphs = small
    x, upstream, state = torch.rand(2, 2, 4, 4), torch.randn(2, CLASSES), tensors(module, graphs)
    assert graphs.noise_columns == 16
    logits, _, _ = differentiated(graphs, state, x, upstream, torch.ones(2, 16))
    torch.testing.assert_close(logits, module.last.bias.detach().expand(2, CLASSES))


def test_frozen_parameters_have_no_gradient_and_stay() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    module[0].weight.requires_grad_(False)
    graphs = record(module, (4,), CLASSES)
    assert graphs.names == ("0.bias", "2.weight", "2.bias", "0.weight")
    assert graphs.changed_buffers == ()
    assert len(graphs.backward.graph.find_nodes(op="output")[0].args[0]) == 3


def test_a_recording_leaves_the_module_alone(small: tuple[Small, Graphs]) -> None:
    module = copy.deepcopy(small[0]).eval()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    record(module, (2, 4, 4), CLASSES)
    assert not any(m.training for m in module.modules())
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())


class ByValue(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x)
        return h if float(h.detach().sum()) > 0 else -h


def test_a_forward_that_looks_at_values_is_refused() -> None:
    with pytest.raises(ExportError, match="may look at shapes, not at values"):
        record(ByValue(4, CLASSES), (4,), CLASSES)


def test_a_transposed_convolution_is_refused_with_its_submodule() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(2, 2, 2), nn.Flatten(), nn.Linear(50, CLASSES))
    with pytest.raises(ExportError, match=r"a transposed one has no gradient in ExecuTorch \(in submodule '0'\)"):
        record(module, (2, 4, 4), CLASSES)


def test_an_operator_knows_its_submodule_and_line(small: tuple[Small, Graphs]) -> None:
    found = {origin(n) for n in small[1].forward.graph.nodes if n.op == "call_function"}
    assert any("in submodule 'norm'" in words for words in found)
    assert any("in the model itself at test_executorch_graph.py:" in words for words in found)


def test_saved_values_are_each_given_once(small: tuple[Small, Graphs]) -> None:
    taken = small[1].backward_inputs
    assert len(set(taken)) == len(taken)
    assert all(a != b for a, b in itertools.pairwise(taken))


def test_masks_cross_as_bytes(small: tuple[Small, Graphs]) -> None:
    """Java's tensors hold no booleans."""
    graphs = small[1]
    assert "uint8" in graphs.output_dtypes
    assert "bool" not in graphs.output_dtypes
    given = graphs.backward.graph.find_nodes(op="placeholder")
    assert not any(node.meta["val"].dtype is torch.bool for node in given)
