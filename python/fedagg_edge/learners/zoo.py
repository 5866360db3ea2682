"""Small and large models by name, as plain functions ``name(sample_shape, classes, **kwargs) -> torch.nn.Module``.

Every model takes a float32 batch in [0, 1] of shape (N, *sample_shape) and returns logits (N, classes). A user's own
function of that form stands beside them as ``module:function``: see `build_model`. All but `mlp` have batch norm, so in
training a batch needs two samples or more wherever the image has shrunk to one pixel (ResNets at 8x8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedagg_edge import plugins
from fedagg_edge.errors import LearnerError, nearest

__all__ = ["MODELS", "build_model", "check_model", "cnn1d", "cnn3", "dwcnn", "mlp", "resnet10", "resnet18"]

Shape = tuple[int, ...]


def build_model(
    spec: str, sample_shape: Shape, classes: int, *, base_dir: str | Path | None = None, **kwargs: Any
) -> nn.Module:
    """Return a new model: one of `MODELS` by name, or ``module:function`` (looked for in `base_dir` first).

    The function is called as ``function(sample_shape=..., classes=..., **kwargs)``; its weights come from torch's
    global generator, so seed that first. One forward pass of two samples in evaluation mode checks the result.
    Raises LearnerError for an unknown name or a model that does not fit, ConfigError for a wrong `module:function` or
    argument.
    """
    if spec in MODELS:
        function: Any = MODELS[spec]
    elif ":" in spec:
        function = plugins.load_object(spec, base_dir)
    else:
        raise LearnerError(
            f"model: got {spec!r}{nearest(spec, MODELS)}, expected {', '.join(MODELS)} or 'module:function'"
        )
    arguments = {"sample_shape": sample_shape, "classes": classes, **kwargs}
    return check_model(plugins.call(function, f"model {spec!r}", arguments), spec, sample_shape, classes)


def check_model(model: Any, spec: str, sample_shape: Shape, classes: int) -> nn.Module:
    """Return `model` if, in evaluation mode, it maps float32 (2, *sample_shape) to float32 logits (2, classes).

    Raises LearnerError, naming `spec`, if it does not, or is no torch.nn.Module at all.
    """
    if not isinstance(model, nn.Module):
        raise LearnerError(f"model {spec!r}: got {type(model).__name__}, expected a torch.nn.Module")
    _check_forward(model, spec, sample_shape, classes)
    return model


def _check_forward(model: nn.Module, spec: str, sample_shape: Shape, classes: int) -> None:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            out = model(torch.zeros(2, *sample_shape))
    except Exception as error:  # torch and the user's own forward may raise anything
        raise LearnerError(
            f"model {spec!r}: a float32 batch of shape {(2, *sample_shape)} gave {type(error).__name__}: {error}; "
            "use a model that fits the data's sample shape"
        ) from error
    finally:
        model.train(was_training)
    if not isinstance(out, Tensor):
        raise LearnerError(f"model {spec!r}: forward returned {type(out).__name__}, expected a tensor of logits")
    if out.shape != (2, classes) or out.dtype != torch.float32:
        raise LearnerError(
            f"model {spec!r}: forward returned {out.dtype} {tuple(out.shape)}, expected torch.float32 {(2, classes)} "
            f"for a batch of two and {classes} classes"
        )


def mlp(sample_shape: Shape, classes: int, hidden: Sequence[int] = (32,)) -> nn.Module:
    """A perceptron with ReLU between layers, for samples of any shape."""
    size = 1
    for length in sample_shape:
        size *= length
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise([size, *hidden]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear([size, *hidden][-1], classes))


def cnn3(sample_shape: Shape, classes: int, widths: Sequence[int] = (8, 24, 40)) -> nn.Module:
    """The paper's device model, a "3-layer CNN" of 10.88K parameters, as nearly as its text allows.

    The paper gives no structure. Its figures for the ResNets (4.67M, 10.65M) are right only in units of 2**20, so
    10.88K is read as 10.88 * 2**10. Three 3x3 convolutions without bias, each with batch norm and ReLU, 2x2 max
    pooling after the first two, global average pooling and one linear layer: with 8, 24 and 40 channels 11,138
    parameters at 3 channels and 10 classes, which is 10.88K. (The authors' demo has another: one 7x7 convolution and
    two linear layers, 13,146.) Images of 4x4 and larger.
    """
    _need(sample_shape, 3, "cnn3")
    channels = [sample_shape[0], *widths]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(channels)):
        layers += [*_conv_norm_relu(a, b), *([nn.MaxPool2d(2)] if i < len(widths) - 1 else [])]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))


def dwcnn(sample_shape: Shape, classes: int, widths: Sequence[int] = (16, 32, 64)) -> nn.Module:
    """A depthwise-separable CNN for boards: few multiplications for its size.

    One full 3x3 convolution, then a depthwise 3x3 of stride 2 and a pointwise 1x1 per further width, as in MobileNet
    (arXiv 1704.04861). 4,394 parameters at 3 channels and 10 classes.
    """
    _need(sample_shape, 3, "dwcnn")
    layers = _conv_norm_relu(sample_shape[0], widths[0])
    for a, b in pairwise(widths):
        layers += [*_conv_norm_relu(a, a, stride=2, groups=a), *_conv_norm_relu(a, b, size=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def cnn1d(sample_shape: Shape, classes: int, widths: Sequence[int] = (16, 32, 48), kernel: int = 5) -> nn.Module:
    """A CNN over time for sensor windows (C, L): per width a convolution, batch norm, ReLU and, but for the last,
    max pooling by 2. L of 2 to the power of (widths - 1), or longer.
    """
    _need(sample_shape, 2, "cnn1d")
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise([sample_shape[0], *widths])):
        layers += [nn.Conv1d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
        layers += [nn.MaxPool1d(2)] if i < len(widths) - 1 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def resnet10(sample_shape: Shape, classes: int, width: int = 64, stem: str = "small") -> nn.Module:
    """ResNet-10, the paper's edge model: one basic block a stage; see `resnet18` for the arguments.

    4,903,242 parameters at 3 channels and 10 classes: 4.68 * 2**20, where the paper says 4.67M.
    """
    return _resnet("resnet10", sample_shape, classes, blocks=(1, 1, 1, 1), width=width, stem=stem)


def resnet18(sample_shape: Shape, classes: int, width: int = 64, stem: str = "small") -> nn.Module:
    """ResNet-18 (arXiv 1512.03385), the paper's cloud model: two basic blocks a stage.

    `width` is the first stage's channels and doubles per stage. The stem ``small`` is a 3x3 convolution, as is usual
    for 32x32 images and needed for 8x8; ``large`` is ImageNet's and the authors' demo's, 7x7 of stride 2 and 3x3 max
    pooling. 11,173,962 parameters at 3 channels and 10 classes: 10.66 * 2**20, where the paper says 10.65M; the
    difference is that of counting neither the norms' nor the classifier's parameters (11,168,832 without the latter).
    """
    return _resnet("resnet18", sample_shape, classes, blocks=(2, 2, 2, 2), width=width, stem=stem)


def _resnet(name: str, sample_shape: Shape, classes: int, *, blocks: Iterable[int], width: int, stem: str) -> nn.Module:
    _need(sample_shape, 3, name)
    if stem not in ("small", "large"):
        raise LearnerError(f"model {name!r}: got stem {stem!r}, expected 'small' or 'large'")
    small = stem == "small"
    layers = _conv_norm_relu(sample_shape[0], width, size=3 if small else 7, stride=1 if small else 2)
    layers += [] if small else [nn.MaxPool2d(3, stride=2, padding=1)]
    channels = width
    for stage, count in enumerate(blocks):
        for i in range(count):
            layers.append(_Block(channels, width << stage, stride=2 if stage > 0 and i == 0 else 1))
            channels = width << stage
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input; a 1x1 convolution fits it where shapes differ."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_norm_relu(a, b, stride=stride),
            nn.Conv2d(b, b, 3, padding=1, bias=False),
            nn.BatchNorm2d(b),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and a == b
            else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


def _conv_norm_relu(a: int, b: int, *, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(a, b, size, stride, padding=size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(b), nn.ReLU()]


def _need(sample_shape: Shape, ndim: int, name: str) -> None:
    if len(sample_shape) != ndim:
        wanted = "images (C, H, W)" if ndim == 3 else "sensor windows (C, L)"
        raise LearnerError(f"model {name!r}: got samples of shape {sample_shape}, expected {wanted}")


MODELS = {
    "mlp": mlp,
    "cnn3": cnn3,
    "resnet10": resnet10,
    "resnet18": resnet18,
    "cnn1d": cnn1d,
    "dwcnn": dwcnn,
}
"""The zoo by name."""
