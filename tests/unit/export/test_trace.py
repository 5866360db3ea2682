import pytest
import torch
from compiled import CLASSES, IMAGE, through
from torch import Tensor, nn

from fedagg_edge.errors import ExportError
from fedagg_edge.export.trace import trace_inference, trace_training


def test_sizes_that_follow_the_batch_are_negative() -> None:
    trace = trace_training(through(nn.ReLU()), IMAGE, CLASSES)
    assert trace.x.shape == (-1, *IMAGE)
    assert trace.logits.shape == (-1, CLASSES)
    assert trace.upstream is not None
    assert [g and g.shape for g in trace.gradients] == [p.shape for p in trace.parameters.values()]


def test_the_module_is_left_as_it_was() -> None:
    model = through(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout()))
    model.eval()
    model.first.train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    trace_training(model, IMAGE, CLASSES)
    trace_inference(model, IMAGE)
    assert [m.training for m in (model, model.first, model.function)] == [False, True, False]
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_buffers_are_told_apart() -> None:
    trace = trace_training(through(nn.BatchNorm2d(4)), IMAGE, CLASSES)
    assert trace.counters == {"function.num_batches_tracked": 1}
    assert [n.op for n in trace.new_buffers.values()] == ["running_mean", "running_var"]
    assert trace_inference(through(nn.BatchNorm2d(4)), IMAGE).new_buffers == {}


class Looks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) if len(x) == 5 else torch.tanh(x)


class Rest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x[:1]])[: len(x)]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Looks(), "(?s)cannot be recorded: .*its forward may not look at values"),
        (Odd(), "runs other operators for another batch size"),
        (Rest(), "got sizes 6 and 8 for batches of 5 and 7, expected a multiple"),
        (nn.BatchNorm2d(4, momentum=None), "cannot be recorded"),
    ],
)
def test_what_cannot_be_recorded_says_why(function: nn.Module, message: str) -> None:
    model = through(nn.ReLU())
    model.function = function
    with pytest.raises(ExportError, match=message):
        trace_training(model, IMAGE, CLASSES)
