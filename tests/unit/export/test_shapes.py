import pytest
import torch
from compiled import IMAGE, SIGNAL, assert_learns_as_torch, through
from torch.nn import functional as F

from fedagg_edge.errors import ExportError
from fedagg_edge.export.tflite import compile_module

FUNCTIONS = {
    "permuted": lambda x: x.permute(0, 2, 3, 1) * 2.0,
    "transposed and viewed": lambda x: x.transpose(1, 2).reshape(len(x), 8, -1),
    "joined": lambda x: torch.cat([x, torch.relu(x)], 1),
    "joined rows of pixels": lambda x: torch.cat([x, -x], 2),
    "sliced": lambda x: x[:, 1:3, ::2, 1:-1],
    "selected": lambda x: x[:, 1] + x[:, -1],
    "split": lambda x: torch.maximum(*x.split(2, 1)),
    "padded": lambda x: F.pad(x, (1, 2, 0, 1)),
    "cropped": lambda x: F.pad(x, (-1, 0, 0, -2)),
    "mean of pixels": lambda x: x.mean((2, 3)),
    "mean of channels": lambda x: x.mean(1, keepdim=True) * x,
    "sum of a side": lambda x: x.sum(2) / 8,
    "largest": lambda x: x.amax((2, 3)),
    "expanded": lambda x: x[:, :1].expand(-1, 4, -1, -1) * x,
    "centred by the batch": lambda x: x - x.mean(0, keepdim=True),
    "scaled by the batch": lambda x: x * x.mean((0, 2, 3), keepdim=True),
    "shuffled": lambda x: F.pixel_shuffle(x, 2),
    "a constant added": lambda x: x + torch.arange(8, dtype=torch.float32),
    "flattened": lambda x: x.flatten(2).unsqueeze(1).squeeze(1),
    "half expanded": lambda x: torch.cat([x.mean((2, 3), keepdim=True).expand_as(x), x], 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_moves_and_reductions_are_torchs(name: str) -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(FUNCTIONS[name]))


def test_signals_too() -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(lambda x: x.unsqueeze(2).squeeze(2).transpose(1, 2), SIGNAL), SIGNAL)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x + x[:1], "over the batch is not possible"),
        (lambda x: x + torch.arange(len(x)).view(-1, 1, 1, 1), "a range as long as the batch"),
        (lambda x: F.pad(x, (1, 1), value=2.0), "got padding with 2.0"),
    ],
)
def test_what_depends_on_the_batch_size_is_refused(function, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        compile_module(through(function), IMAGE, 5)
