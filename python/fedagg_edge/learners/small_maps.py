"""Convolutions with many weights over maps of a few pixels, as matrix products.

torch's convolution rearranges all weights in each step, forward and twice backward. The last stages of a ResNet have
millions of weights and a map of 2x2 or 1x1 pixels (32x32 images, ImageNet's stem), so that they take most of a step
and compute little: docs/decisions/small-maps.md has the figures.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SmallMapConv2d", "speed_up"]

MANY_WEIGHTS = 1 << 18
FEW_PIXELS = 4  # of a map
FEW_ROWS = 512  # of a batch's maps together: above it, the rearranging is shared among enough of them


class SmallMapConv2d(nn.Conv2d):
    """``nn.Conv2d`` without groups, dilation or padding modes: the same numbers up to rounding, and the same state."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """float32 [N, C, H, W] -> [N, K, H', W']."""
        if input.ndim != 4:
            return super().forward(input)  # one sample alone, or what torch refuses
        assert not isinstance(self.padding, str)
        kernel, stride, padding = self.kernel_size, self.stride, self.padding
        height, width = (
            (have + 2 * p - k) // s + 1 for have, p, k, s in zip(input.shape[2:], padding, kernel, stride, strict=True)
        )
        if not 0 < height * width <= FEW_PIXELS:
            return super().forward(input)  # which says what is wrong with a map that is too small
        meets = padding[0] < kernel[0] and padding[1] < kernel[1]
        if input.shape[2:] == (1, 1) and height * width == 1 and meets:  # with one tap, the others lie over the padding
            # one selection, not two: its gradient is the whole weight's, mostly zeros; and one copy for both directions
            at = self.weight.flatten(2)[:, :, padding[0] * kernel[1] + padding[1]].contiguous()
            return functional.linear(input.flatten(1), at, self.bias)[:, :, None, None]
        if len(input) * height * width > FEW_ROWS:
            return super().forward(input)
        patches = functional.unfold(input, kernel, padding=padding, stride=stride)  # [N, C * kernel, H' * W']
        rows = patches.transpose(1, 2).flatten(0, 1)
        out = functional.linear(rows, self.weight.flatten(1), self.bias)
        # contiguous, as of torch's convolution: the next layer may be somebody's `view`
        return out.view(len(input), height, width, self.out_channels).permute(0, 3, 1, 2).contiguous()


def speed_up(module: nn.Module) -> None:
    """Have the module's plain convolutions of `MANY_WEIGHTS` or more computed so; others are left alone."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d and layer.weight.numel() >= MANY_WEIGHTS and _plain(layer):
            layer.__class__ = SmallMapConv2d


def _plain(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
