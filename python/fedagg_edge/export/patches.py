"""Convolutions of stride 1 as one matrix product, several pixels of a row at a time.

A block of b pixels side by side sees b + k - 1 columns: one row of the product's left side, of which b + k - 1 columns
stand in memory for what would be b * k one by one. Its right side holds the filters b times, each shifted by a pixel,
zeros elsewhere. That is more multiplications and less copying, and copying is what takes the time: see
docs/decisions/tflite-convolution.md. Images are (N, H, W, C).
"""

from __future__ import annotations

from dataclasses import dataclass

from fedagg_edge.export import ops
from fedagg_edge.export.writer import GraphWriter, Tensor

__all__ = ["Blocks", "blocks_for_gradient", "blocks_for_product"]

_LANES = 32
"""Columns that the delegate's matrix product works out together, used or not."""
_COPY = 30
"""What copying a value costs, in multiplications."""
_WIDEST = 8


@dataclass(frozen=True, slots=True)
class Blocks:
    """How images are cut: kernel (height, width), padding on all sides, and pixels a block."""

    kernel: tuple[int, int]
    padding: tuple[int, int]
    width: int

    @property
    def columns(self) -> int:
        """Columns of pixels that a block sees."""
        return self.width + self.kernel[1] - 1

    def patches(self, g: GraphWriter, x: Tensor) -> Tensor:
        """What every block of images (N, H, W, C) sees, (N, h, w / width, kernel height * columns * C)."""
        n, height, width, c = x.shape
        (kh, kw), (ph, pw) = self.kernel, self.padding
        h, count = height + 2 * ph - kh + 1, (width + 2 * pw - kw + 1) // self.width
        pieces = -(-self.columns // self.width)
        right = self.width * (count + pieces - 1) - width - pw
        x = ops.pad(g, x, (0, ph, pw, 0), (0, ph, max(0, right), 0))
        cut = ops.reshape(g, x, (n, height + 2 * ph, count + pieces - 1, self.width * c))
        rows = []
        for piece in range(pieces):
            size = min(self.width, self.columns - piece * self.width) * c
            rows.append(ops.strided_slice(g, cut, (0, 0, piece, 0), (*cut.shape[:2], piece + count, size), (1,) * 4))
        seen = ops.concatenate(g, rows, 3)
        lines = [ops.strided_slice(g, seen, (0, i, 0, 0), (n, i + h, *seen.shape[2:]), (1,) * 4) for i in range(kh)]
        return ops.concatenate(g, lines, 3)

    def filters(self, g: GraphWriter, w: Tensor) -> Tensor:
        """Filters (O, kh, kw, I) for every pixel of a block, (width * O, kh * columns * I).

        A row of zeros but for a filter's, one pixel longer than a block sees, again and again and cut into rows of a
        block: each stands one pixel further on than the one before it.
        """
        outputs, kh, kw, inputs = w.shape
        rows, size = ops.reshape(g, w, (outputs, kh, kw * inputs)), self.columns * inputs
        if self.width > 1:
            rows = ops.pad(g, rows, (0, 0, 0), (0, 0, self.width * inputs))
            rows = ops.tile(g, rows, (1, 1, self.width))
            rows = ops.slices(g, rows, 2, (0, self.width * size, 1))
            rows = ops.reshape(g, rows, (outputs, kh, self.width, size))
            rows = ops.transpose(g, rows, (2, 0, 1, 3))
        return ops.reshape(g, rows, (self.width * outputs, kh * size))

    def gradient(self, g: GraphWriter, product: Tensor, shape: tuple[int, ...]) -> Tensor:
        """From the gradient of `filters`, laid out as it, that of the filters (O, kh, kw, I)."""
        outputs, kh, kw, inputs = shape
        size = self.columns * inputs
        if self.width == 1:
            return ops.reshape(g, product, shape)
        found = ops.transpose(g, ops.reshape(g, product, (self.width, outputs, kh, size)), (1, 2, 0, 3))
        found = ops.reshape(g, found, (outputs, kh, self.width * size))
        found = ops.pad(g, found, (0, 0, 0), (0, 0, self.width * inputs))
        found = ops.reshape(g, found, (outputs, kh, self.width, size + inputs))
        total = ops.reduce(g, "sum", found, [2], keep=False)
        return ops.reshape(g, ops.slices(g, total, 2, (0, kw * inputs, 1)), shape)


def blocks_for_product(x: Tensor, kernel: tuple[int, int], padding: tuple[int, int], outputs: int) -> Blocks:
    """The cut that costs least for images x and so many filters."""

    def cost(blocks: Blocks) -> float:
        return blocks.columns / blocks.width * (_filled(blocks.width * outputs) + _COPY)

    return min(_possible(x, kernel, padding), key=cost)


def blocks_for_gradient(
    x: Tensor, kernel: tuple[int, int], padding: tuple[int, int], outputs: int
) -> tuple[Blocks, bool]:
    """The cut that costs least for the filters' gradient; whether dLoss/dout is then the product's left side.

    The forward pass's patches are there already.
    """
    there = blocks_for_product(x, kernel, padding, outputs)

    def cost(choice: tuple[Blocks, bool]) -> float:
        blocks, left = choice
        seen, given = kernel[0] * blocks.columns * x.shape[3], blocks.width * outputs
        a, b = (given, seen) if left else (seen, given)
        copied = 0 if blocks == there else seen * _COPY
        return (a * (_filled(b) + _COPY) + copied) / blocks.width

    return min(((b, left) for b in _possible(x, kernel, padding) for left in (False, True)), key=cost)


def _filled(columns: int) -> int:
    return -(-columns // _LANES) * _LANES


def _possible(x: Tensor, kernel: tuple[int, int], padding: tuple[int, int]) -> list[Blocks]:
    width = x.shape[2] + 2 * padding[1] - kernel[1] + 1
    return [Blocks(kernel, padding, b) for b in range(1, _WIDEST + 1) if width % b == 0]
