"""Several torch learners of one structure stepped as one: grouped operators over their stacked weights.

Nothing is kept here between steps: weights are gathered from the learners and gradients handed back, so a learner's
state, its errors and its optimizer are its own. Layout of activations: [N, K * C, H, W] or [N, K * C, L] while
convolutions run, so that batch norm sees each learner's channels alone; [K, N, F] for linear layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import LearnerError
from fedagg_edge.learners import objective
from fedagg_edge.learners.base import Batch, Learner, StepReport
from fedagg_edge.learners.small_maps import SmallMapConv2d
from fedagg_edge.learners.torch import TorchLearner

__all__ = ["stack_key", "stacked_step"]

_POINTWISE = (nn.ReLU, nn.Identity)
_CHANNELWISE = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_KNOWN = (nn.Sequential, nn.Flatten, nn.Linear, nn.Conv2d, SmallMapConv2d, nn.BatchNorm2d, *_POINTWISE, *_CHANNELWISE)


def stack_key(learner: Learner) -> Hashable | None:
    """Equal for learners that can be stepped as one; None for one that cannot be stacked at all.

    Stackable is a `TorchLearner` of a plain ``nn.Sequential`` of convolutions without padding modes, batch norm with
    running figures, ReLU, pooling, flattening and linear layers, with float32 parameters that all train.
    """
    if type(learner) is not TorchLearner or type(learner.module) is not nn.Sequential:
        return None
    modules = list(learner.module.modules())
    plain = all(type(m) in _KNOWN and not _hooked(m) and _fits(m) for m in modules)
    shared = len(list(learner.module.modules())) != len(list(learner.module.named_modules(remove_duplicate=False)))
    if not plain or shared or not all(p.requires_grad for p in learner.module.parameters()):
        return None
    described = tuple((type(m).__name__, m.extra_repr()) for m in modules)
    return described, learner.state().table


def _fits(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):  # a SmallMapConv2d is one
        return module.padding_mode == "zeros"
    if isinstance(module, nn.BatchNorm2d):
        return module.affine and module.track_running_stats and module.momentum is not None
    if isinstance(module, nn.MaxPool2d):
        return not module.return_indices
    return not isinstance(module, nn.Flatten) or (module.start_dim, module.end_dim) == (1, -1)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def stacked_step(
    learners: Sequence[TorchLearner], batches: Sequence[Batch], hyperparameters: Hyperparameters
) -> list[StepReport]:
    """`Learner.step` of K learners with the same `stack_key` on a batch each; all batches have the same shapes.

    Losses go through `learners.objective`, learner by learner, as alone. Raises LearnerError, without a step of any,
    if a loss or a gradient is not finite.
    """
    flats = [learner.flat for learner in learners]
    trained = flats[0].trained
    values_KP = torch.stack([flat.values for flat in flats])
    weights_KP = values_KP[:, :trained].clone().requires_grad_()
    rest_KP = values_KP[:, trained:].clone()
    outputs, gradients = [], []
    private = bridge = None
    counted = 0
    if batches[0].private_x_N is not None:
        logits_KNC = _forward(learners[0].module, weights_KP, rest_KP, [b.private_x_N for b in batches])
        private = [objective.private_loss(z, b) for z, b in zip(_arrays(logits_KNC), batches, strict=True)]
        outputs.append(logits_KNC)
        gradients.append(torch.from_numpy(np.stack([p.gradient_NC for p in private])))
        counted += 1
    if len(batches[0].bridge_x_N):
        logits_KNC = _forward(learners[0].module, weights_KP, rest_KP, [b.bridge_x_N for b in batches])
        pairs = zip(_arrays(logits_KNC), batches, strict=True)
        bridge = [objective.bridge_loss(z, b, hyperparameters) for z, b in pairs]
        outputs.append(logits_KNC)
        gradients.append(torch.from_numpy(np.stack([p.gradient_NC for p in bridge])))
        counted += 1
    every = range(len(learners))
    reports = [objective.report(private[k] if private else None, bridge[k] if bridge else None) for k in every]
    _check(all(math.isfinite(r.loss) for r in reports), "loss")
    torch.autograd.backward(outputs, gradients)
    gradient_KP = weights_KP.grad
    if gradient_KP is None:
        raise LearnerError("stacked step: got no gradient; a model's output does not depend on its weights")
    _check(math.isfinite(float(gradient_KP.sum())), "gradient")
    for k, learner in enumerate(learners):
        learner.flat.values[trained:] = rest_KP[k]
        learner.flat.count(counted)
        learner.apply_gradient(gradient_KP[k].numpy(), hyperparameters)
    return reports


def _check(finite: bool, what: str) -> None:
    if not finite:
        raise LearnerError(
            f"the {what} of a stacked step became infinite or NaN; all weights are those before it; lower "
            "learning_rate, check that samples are on the model's input scale, or find the device with stacked = false"
        )


def _arrays(logits_KNC: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = logits_KNC.detach().contiguous().numpy()
    return array


def _forward(
    module: nn.Module, weights_KP: Tensor, rest_KP: Tensor, x_KN: Sequence[NDArray[np.float32] | None]
) -> Tensor:
    """Logits [K, N, C] in training mode; running figures in `rest_KP` move."""
    x = torch.from_numpy(np.stack([x for x in x_KN if x is not None]))  # [K, N, ...]
    take, take_rest = _taker(weights_KP), _taker(rest_KP)
    count = len(weights_KP)
    if x.ndim == 5:
        x = x.transpose(0, 1).flatten(1, 2)  # [N, K * C, H, W]
    for layer in (m for m in module.modules() if not isinstance(m, nn.Sequential)):
        x = _layer(layer, x, count, take, take_rest)
    return x


Take = Callable[[torch.Size], Tensor]


def _taker(flat_KP: Tensor) -> Take:
    """Hands out the next entries of each row, as [K, *shape]."""
    start = 0

    def take(shape: torch.Size) -> Tensor:
        nonlocal start
        stop = start + math.prod(shape)
        view = flat_KP[:, start:stop].reshape(len(flat_KP), *shape)
        start = stop
        return view

    return take


def _layer(layer: nn.Module, x: Tensor, count: int, take: Take, take_rest: Take) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        weight = take(layer.weight.shape).flatten(0, 1)
        bias = None if layer.bias is None else take(layer.bias.shape).flatten()
        groups = count * layer.groups
        padding = layer.padding
        return nn.functional.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, groups)
    if isinstance(layer, nn.BatchNorm2d):
        return _batch_norm(layer, x, take, take_rest)
    if isinstance(layer, nn.Flatten):
        return _as_rows(x, count)
    if isinstance(layer, nn.Linear):
        weight = take(layer.weight.shape).transpose(1, 2)
        if "bias" not in dict(layer.named_parameters()):
            return torch.bmm(x, weight)
        return torch.baddbmm(take(layer.bias.shape).unsqueeze(1), x, weight)
    out: Tensor = layer(x)  # pointwise or channelwise, without weights
    return out


def _batch_norm(layer: nn.BatchNorm2d, x: Tensor, take: Take, take_rest: Take) -> Tensor:
    scale, shift = take(layer.weight.shape).flatten(), take(layer.bias.shape).flatten()
    features = torch.Size((layer.num_features,))
    mean_KC, variance_KC = take_rest(features), take_rest(features)  # views, but not contiguous ones
    mean, variance = mean_KC.flatten().clone(), variance_KC.flatten().clone()
    momentum = layer.momentum if layer.momentum is not None else 0.0
    out = nn.functional.batch_norm(x, mean, variance, scale, shift, training=True, momentum=momentum, eps=layer.eps)
    mean_KC.copy_(mean.view_as(mean_KC))
    variance_KC.copy_(variance.view_as(variance_KC))
    return out


def _as_rows(x: Tensor, count: int) -> Tensor:
    """[N, K * C, H, W] or [K, N, F...] as [K, N, F]."""
    if x.ndim == 4:
        return x.reshape(len(x), count, -1).transpose(0, 1)
    return x.flatten(2)
