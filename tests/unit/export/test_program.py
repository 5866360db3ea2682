import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from compiled import CLASSES, IMAGE, assert_learns_as_torch, no_loss, through
from torch import Tensor, nn

from fedagg_edge.export.program import write_inference, write_training
from fedagg_edge.export.trace import trace_inference, trace_training
from fedagg_edge.export.writer import ModelWriter


def interpreter_of(module: nn.Module) -> Interpreter:
    model = ModelWriter("a test")
    write_training(model, trace_training(module, IMAGE, CLASSES))
    write_inference(model, trace_inference(module, IMAGE))
    return Interpreter(model_content=model.finish({}))


def test_the_signatures_are_stateless() -> None:
    module = through(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.25)))
    signatures = interpreter_of(module).get_signature_list()
    assert list(signatures["infer"]["inputs"]) == ["weights", "x"]
    assert set(signatures) == {"infer", "train"}
    assert set(signatures["train"]["inputs"]) == {"x", "weights", "mask_0", "targets", "settings"}
    assert set(signatures["train"]["outputs"]) == {"logits", "buffers", "gradient"}


def test_only_builtin_operators() -> None:
    details = interpreter_of(through(nn.BatchNorm2d(4)))._get_ops_details()
    assert not [d["op_name"] for d in details if "CUSTOM" in d["op_name"].upper() or "FLEX" in d["op_name"].upper()]


def test_masks_are_drawn_by_who_trains() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, CLASSES))
    weights = torch.cat([p.detach().flatten() for p in module.parameters()]).numpy()
    x_N = np.random.default_rng(0).random((3, *IMAGE), np.float32)
    train = interpreter_of(module).get_signature_runner("train")
    mask, (targets, settings) = np.ones((3, 128), np.float32), no_loss(3)
    kept = train(x=x_N, weights=weights, mask_0=mask, targets=targets, settings=settings)["logits"]
    linear = module[2]
    expected = linear(2 * torch.from_numpy(x_N).flatten(1)).detach().numpy()  # what is kept is doubled
    np.testing.assert_allclose(kept, expected, atol=1e-5)


def test_dropout_of_values_and_of_channels_learns_as_torch_does() -> None:
    torch.manual_seed(0)
    assert_checked(nn.Sequential(nn.Dropout(0.3), nn.ReLU()))
    assert_checked(nn.Sequential(nn.Dropout2d(0.5), nn.BatchNorm2d(4)))


def assert_checked(function: nn.Module) -> None:
    """The export's own check draws the same masks for torch."""
    from fedagg_edge.export.tflite import compile_module

    assert compile_module(through(function), IMAGE, CLASSES)[1].weights < 1e-5


def test_an_input_as_output_and_a_buffer_that_never_changes() -> None:
    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("offset", torch.arange(5.0))
            self.scale = nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale + self.offset

    assert_learns_as_torch(Offset(), (5,))
    assert_learns_as_torch(nn.Sequential(nn.Identity(), nn.Linear(5, 5)), (5,))
