from pathlib import Path
from typing import Any

import pytest
import torch

from fedagg_edge.errors import ConfigError, LearnerError
from fedagg_edge.learners.zoo import MODELS, build_model

IMAGE, DIGIT, WINDOW = (3, 32, 32), (1, 8, 8), (6, 128)


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("mlp", DIGIT, {}),
        ("mlp", WINDOW, {"hidden": [16, 8]}),
        ("mlp", DIGIT, {"hidden": []}),
        ("cnn3", DIGIT, {}),
        ("cnn3", (1, 4, 4), {}),
        ("cnn3", IMAGE, {"widths": [4, 8]}),
        ("dwcnn", IMAGE, {}),
        ("dwcnn", DIGIT, {"widths": [8, 16]}),
        ("cnn1d", WINDOW, {}),
        ("cnn1d", (1, 4), {"kernel": 3}),
        ("resnet10", DIGIT, {"width": 8}),
        ("resnet10", IMAGE, {"width": 4, "stem": "large"}),
        ("resnet18", DIGIT, {"width": 4}),
        ("resnet18", (1, 28, 28), {"width": 4}),
    ],
)
def test_every_model_learns_one_step(name: str, shape: tuple[int, ...], arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build_model(name, shape, 7, **arguments)
    assert model.training
    x, y = torch.rand(8, *shape), torch.arange(8) % 7
    logits_NC = model(x)
    assert logits_NC.shape == (8, 7)
    torch.nn.functional.cross_entropy(logits_NC, y).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize(
    ("name", "count"),
    [("cnn3", 11_138), ("dwcnn", 4_394), ("resnet10", 4_903_242), ("resnet18", 11_173_962)],
)
def test_parameter_counts_are_as_documented(name: str, count: int) -> None:
    model = build_model(name, IMAGE, 10)
    assert parameters(model) == count
    assert f"{count:,}" in (MODELS[name].__doc__ or "")


def test_the_resnets_are_torchvisions_but_for_the_stem() -> None:
    # 11,689,512 is torchvision's ResNet-18 with 1,000 classes, by its documentation
    assert parameters(build_model("resnet18", (3, 64, 64), 1000, stem="large")) == 11_689_512


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.nn.utils.parameters_to_vector(build_model("cnn3", DIGIT, 10).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_check_leaves_no_trace_in_the_model() -> None:
    model = build_model("cnn3", DIGIT, 10)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(int(m.num_batches_tracked) == 0 for m in norms)  # type: ignore[arg-type]


OWN = """
import torch
from torch import nn
def build(sample_shape, classes, hidden=4):
    n = sample_shape[0] * sample_shape[1] * sample_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(n, hidden), nn.Linear(hidden, classes))
def fixed(sample_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
def narrow(sample_shape, classes):
    return nn.Linear(5, 5)
def double(sample_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).double()
def no_module(sample_shape, classes):
    return 5
class Pair(nn.Module):
    def forward(self, x):
        return x, x
def pair(sample_shape, classes):
    return Pair()
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_model.py").write_text(OWN)
    return tmp_path


def test_a_users_own_model(own: Path) -> None:
    model = build_model("own_model:build", DIGIT, 10, base_dir=own, hidden=6)
    assert model(torch.rand(3, *DIGIT)).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fixed", r"forward returned torch.float32 \(2, 3\), expected torch.float32 \(2, 10\)"),
        ("narrow", r"a float32 batch of shape \(2, 1, 8, 8\) gave RuntimeError"),
        ("double", ".*gave RuntimeError: .*use a model that fits"),
        ("no_module", "got int, expected a torch.nn.Module"),
        ("pair", "forward returned tuple, expected a tensor of logits"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(own: Path, name: str, message: str) -> None:
    with pytest.raises(LearnerError, match=f"model 'own_model:{name}': {message}"):
        build_model(f"own_model:{name}", DIGIT, 10, base_dir=own)


@pytest.mark.parametrize(
    ("spec", "shape", "arguments", "error", "message"),
    [
        ("resnet81", IMAGE, {}, LearnerError, r"got 'resnet81' \(did you mean 'resnet18'\?\)"),
        ("cnn3", WINDOW, {}, LearnerError, r"got samples of shape \(6, 128\), expected images \(C, H, W\)"),
        ("cnn1d", IMAGE, {}, LearnerError, r"expected sensor windows \(C, L\)"),
        ("cnn3", (1, 2, 2), {}, LearnerError, r"batch of shape \(2, 1, 2, 2\) gave RuntimeError"),
        ("resnet10", IMAGE, {"stem": "tall"}, LearnerError, "got stem 'tall', expected 'small' or 'large'"),
        ("resnet10", IMAGE, {"widht": 8}, ConfigError, r"unknown argument 'widht' \(did you mean 'width'\?\)"),
        ("mlp", DIGIT, {"hidden": 5}, ConfigError, "model 'mlp': .*check the values of its arguments"),
    ],
)
def test_wrong_names_shapes_and_arguments(
    spec: str, shape: tuple[int, ...], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_model(spec, shape, 10, **arguments)
