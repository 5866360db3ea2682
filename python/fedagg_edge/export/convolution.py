"""Translations of convolutions and their gradients, in one and two dimensions.

Of stride 1 they are matrix products over patches (`patches`), which the runtime's delegate multiplies two to five times
faster than the runtime's own CONV_2D convolves; with strides or dilation they are CONV_2D. Measurements:
docs/decisions/tflite-convolution.md. A gradient of a convolution is a convolution again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedagg_edge.errors import ExportError
from fedagg_edge.export import ops
from fedagg_edge.export.lower import Lowering, translates
from fedagg_edge.export.patches import blocks_for_gradient, blocks_for_product
from fedagg_edge.export.shapes import reduced
from fedagg_edge.export.trace import Node
from fedagg_edge.export.values import CHANNELS_LAST, Value, arrange
from fedagg_edge.export.writer import GraphWriter, Tensor

__all__ = ["Geometry", "as_image", "depthwise_input_gradient", "spread"]

_BATCH_LAST = (1, 2, 3, 0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution of images (H, W): kernel, stride, padding on both sides, dilation, and groups of channels."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first to the last that a window sees, less one."""
        return (self.kernel[0] - 1) * self.dilation[0], (self.kernel[1] - 1) * self.dilation[1]

    @property
    def gathers(self) -> bool:
        """Whether it is a matrix product over patches."""
        return (self.stride, self.dilation) == ((1, 1), (1, 1))

    @property
    def pointwise(self) -> bool:
        """Whether a pixel depends on one pixel only, the same one."""
        return (self.kernel, self.stride, self.padding) == ((1, 1), (1, 1), (0, 0))


def as_image(g: GraphWriter, x: Value) -> Tensor:
    """A value (N, C, H, W) or (N, C, L) as (N, H, W, C), a row of pixels having height 1."""
    tensor = arrange(g, x, CHANNELS_LAST[len(x.shape)])
    if len(x.shape) == 4:
        return tensor
    return ops.reshape(g, tensor, (tensor.shape[0], 1, *tensor.shape[1:]))


def _from_image(g: GraphWriter, tensor: Tensor, shape: tuple[int, ...]) -> Value:
    if len(shape) == 3:
        tensor = ops.reshape(g, tensor, (tensor.shape[0], *tensor.shape[2:]))
    return Value(tensor, shape, CHANNELS_LAST[len(shape)])


def _filter(g: GraphWriter, w: Value) -> Tensor:
    """torch's weight (O, I, kh, kw) as (O, kh, kw, I)."""
    return as_image(g, w)


def _pair(values: Sequence[int], lone: int) -> tuple[int, int]:
    """torch's setting per axis, with `lone` for the height that a row of pixels does not have."""
    return (lone, values[0]) if len(values) == 1 else (values[0], values[1])


def _geometry(w: Value, settings: Sequence[object]) -> Geometry:
    stride, padding, dilation, transposed, _, groups = settings
    if transposed:
        raise ExportError("a transposed convolution has no translation")
    kernel = _pair(w.shape[2:], 1)
    return Geometry(kernel, _pair(stride, 1), _pair(padding, 0), _pair(dilation, 1), groups)  # type: ignore[arg-type]


@translates("convolution.default")
def _convolution(ctx: Lowering, node: Node) -> Value:
    x, w, bias = ctx.get(node.args[0]), ctx.get(node.args[1]), node.args[2]
    geometry = _geometry(w, node.args[3:])
    g = ctx.g
    images = as_image(g, x)
    if geometry.groups == 1:
        out = _dense(g, images, _filter(g, w), geometry)
    elif _by_channel(w, geometry):
        out = _depthwise(g, images, _depthwise_filter(g, w), geometry)
    else:
        parts = zip(*_grouped(g, geometry.groups, (images, 3), (_filter(g, w), 0)), strict=True)
        out = ops.concatenate(g, [_dense(g, a, b, replace(geometry, groups=1)) for a, b in parts], 3)
    if bias is not None:
        out = ops.binary(g, "add", out, ctx.get(bias).tensor)
    return _from_image(g, out, node.shape)


def _by_channel(w: Value, geometry: Geometry) -> bool:
    """Whether every channel has one filter of its own."""
    return geometry.groups == w.shape[0] and w.shape[1] == 1


def _grouped(g: GraphWriter, groups: int, *tensors: tuple[Tensor, int]) -> list[tuple[Tensor, ...]]:
    """Each tensor cut along its axis into as many parts as there are groups."""
    return [ops.split(g, t, axis, [t.shape[axis] // groups] * groups) for t, axis in tensors]


def _same(x: Tensor, geometry: Geometry) -> bool:
    """Whether the runtime's SAME pads as torch is asked to."""
    for size, stride, pad, reach in zip(x.shape[1:3], geometry.stride, geometry.padding, geometry.reach, strict=True):
        out = -(-size // stride)
        total = max((out - 1) * stride + reach + 1 - size, 0)
        if total // 2 != pad or (size + 2 * pad - reach - 1) // stride + 1 != out:
            return False
    return True


def _padded(g: GraphWriter, x: Tensor, low: tuple[int, int], high: tuple[int, int]) -> Tensor:
    """Zeros around images; a negative amount cuts."""
    cut = [max(0, -p) for p in low], [max(0, -p) for p in high]
    begin, end = (0, *cut[0], 0), [*x.shape]
    end[1], end[2] = x.shape[1] - cut[1][0], x.shape[2] - cut[1][1]
    x = ops.strided_slice(g, x, begin, end, (1, 1, 1, 1))
    return ops.pad(g, x, (0, max(0, low[0]), max(0, low[1]), 0), (0, max(0, high[0]), max(0, high[1]), 0))


def _dense(g: GraphWriter, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """Images (N, H, W, I) and filters (O, kh, kw, I): images (N, h, w, O)."""
    if geometry.pointwise:
        return _product(g, x, w)
    if geometry.gathers:
        return _blockwise(g, x, w, geometry)
    same = _same(x, geometry)
    if not same:
        x = _padded(g, x, geometry.padding, geometry.padding)
    return ops.conv(g, x, w, stride=geometry.stride, dilation=geometry.dilation, same=same)


def _blockwise(g: GraphWriter, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    blocks = blocks_for_product(x, geometry.kernel, geometry.padding, w.shape[0])
    patches = blocks.patches(g, x)
    n, h, count, size = patches.shape
    rows = ops.reshape(g, patches, (n * h * count, size))
    product = ops.matmul(g, rows, blocks.filters(g, w), adjoint_b=True)
    return ops.reshape(g, product, (n, h, count * blocks.width, w.shape[0]))


def _flat(g: GraphWriter, images: Tensor) -> Tensor:
    """Images as rows of channels, (N * H * W, C)."""
    n, h, w, c = images.shape
    return ops.reshape(g, images, (n * h * w, c))


def _product(g: GraphWriter, patches: Tensor, w: Tensor) -> Tensor:
    """Patches (N, h, w, kh * kw * I) times filters (O, kh, kw, I)."""
    rows = _flat(g, patches)
    filters = ops.reshape(g, w, (w.shape[0], rows.shape[1]))
    return ops.reshape(g, ops.matmul(g, rows, filters, adjoint_b=True), (*patches.shape[:3], w.shape[0]))


def _depthwise_filter(g: GraphWriter, w: Value) -> Tensor:
    """torch's weight (C * multiplier, 1, kh, kw) as (1, kh, kw, C * multiplier)."""
    order = (1, 2, 3, 0) if len(w.shape) == 4 else (1, 2, 0)
    tensor = arrange(g, w, order)
    return tensor if len(w.shape) == 4 else ops.reshape(g, tensor, (1, 1, *tensor.shape[1:]))


def _depthwise(g: GraphWriter, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    same = _same(x, geometry)
    if not same:
        x = _padded(g, x, geometry.padding, geometry.padding)
    return ops.depthwise_conv(g, x, w, stride=geometry.stride, dilation=geometry.dilation, same=same)


@translates("convolution_backward.default")
def _convolution_backward(ctx: Lowering, node: Node) -> tuple[Value | None, ...]:
    wants_x, wants_w, wants_bias = node.args[10]
    gradient, x, w = (ctx.get(a) for a in node.args[:3])
    geometry = _geometry(w, node.args[4:10])
    g, dy = ctx.g, as_image(ctx.g, gradient)
    dx = dw = dbias = None
    if wants_x:
        dx = _from_image(g, _input_gradient(g, dy, x, w, geometry), x.shape)
    if wants_w:
        dw = _weight_gradient(g, dy, x, w, geometry)
    if wants_bias:
        axes = [a for a in range(len(gradient.shape)) if a != 1]
        dbias = reduced(g, "sum", gradient, axes, keep=False)
    return dx, dw, dbias


def _input_gradient(g: GraphWriter, dy: Tensor, x: Value, w: Value, geometry: Geometry) -> Tensor:
    size = _pair(x.shape[2:], 1)
    if geometry.groups == 1:
        return _dense_input_gradient(g, dy, _filter(g, w), size, geometry)
    if _by_channel(w, geometry):
        return depthwise_input_gradient(g, dy, _depthwise_filter(g, w), size, geometry)
    one = replace(geometry, groups=1)
    parts = zip(*_grouped(g, geometry.groups, (dy, 3), (_filter(g, w), 0)), strict=True)
    return ops.concatenate(g, [_dense_input_gradient(g, a, b, size, one) for a, b in parts], 3)


def spread(g: GraphWriter, images: Tensor, stride: tuple[int, int]) -> Tensor:
    """Images with stride - 1 rows and columns of zeros after each of theirs."""
    if stride == (1, 1):
        return images
    n, h, w, c = images.shape
    rows = ops.reshape(g, images, (n * h, 1, w, c))
    rows = ops.pad(g, rows, (0, 0, 0, 0), (0, stride[0] - 1, 0, (stride[1] - 1) * c))
    return ops.reshape(g, rows, (n, h * stride[0], w * stride[1], c))


def _opened(g: GraphWriter, dy: Tensor, size: tuple[int, int], geometry: Geometry) -> tuple[Tensor, Geometry]:
    """dLoss/dout spread, and the convolution of it that gives images of `size`; padded here where that one cannot."""
    dy = spread(g, dy, geometry.stride)
    low = tuple(reach - pad for reach, pad in zip(geometry.reach, geometry.padding, strict=True))
    high = tuple(n + r - s - b for n, r, s, b in zip(size, geometry.reach, dy.shape[1:3], low, strict=True))
    if low == high and min(low) >= 0:
        return dy, replace(geometry, stride=(1, 1), padding=(low[0], low[1]))
    return _padded(g, dy, (low[0], low[1]), (high[0], high[1])), replace(geometry, stride=(1, 1), padding=(0, 0))


def _dense_input_gradient(g: GraphWriter, dy: Tensor, w: Tensor, size: tuple[int, int], geometry: Geometry) -> Tensor:
    outputs, kh, kw, inputs = w.shape
    if (kh, kw) == (1, 1):  # multiply first, then spread: there is nothing to add up
        product = ops.matmul(g, _flat(g, dy), ops.reshape(g, w, (outputs, inputs)))
        return _opened(g, ops.reshape(g, product, (*dy.shape[:3], inputs)), size, geometry)[0]
    turned = ops.reverse(g, ops.reshape(g, w, (outputs, kh * kw, inputs)), 1)
    turned = ops.reshape(g, ops.transpose(g, turned, (2, 1, 0)), (inputs, kh, kw, outputs))
    images, onward = _opened(g, dy, size, geometry)
    return _dense(g, images, turned, onward)


def depthwise_input_gradient(
    g: GraphWriter, dy: Tensor, w: Tensor, size: tuple[int, int], geometry: Geometry
) -> Tensor:
    """dLoss/dx (N, *size, C) of a channel-by-channel convolution with w (1, kh, kw, C)."""
    _, kh, kw, channels = w.shape
    if _by_phases(dy, size, geometry):
        return _phased_input_gradient(g, dy, w, geometry)
    turned = ops.reshape(g, ops.reverse(g, ops.reshape(g, w, (kh * kw, channels)), 0), w.shape)
    images, onward = _opened(g, dy, size, geometry)
    return _depthwise(g, images, turned, onward)


def _by_phases(dy: Tensor, size: tuple[int, int], geometry: Geometry) -> bool:
    """Whether images are `stride` times dLoss/dout in both directions, so that every phase has its size."""
    stride = geometry.stride
    fits = size == (dy.shape[1] * stride[0], dy.shape[2] * stride[1])
    return fits and geometry.dilation == (1, 1) and stride[0] == stride[1] > 1


def _phased_input_gradient(g: GraphWriter, dy: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """Pixels s * i + a, for each a below the stride s, from a convolution of their own of dLoss/dout.

    That is a quarter, at stride 2, of what a convolution of dLoss/dout spread with zeros multiplies. Pixel s * i + a
    and dLoss/dout at o meet in the kernel's row s * t + a + padding, where t = i - o.
    """
    c, s = dy.shape[3], geometry.stride[0]
    (kh, kw), padding = geometry.kernel, geometry.padding
    least = [-((s - 1 + p) // s) for p in padding]  # of t
    most = [(k - 1 - p) // s for k, p in zip(geometry.kernel, padding, strict=True)]
    taps = [b - a + 1 for a, b in zip(least, most, strict=True)]
    before = [-s * a - p for a, p in zip(least, padding, strict=True)]
    after = [s * t - k - b for t, k, b in zip(taps, (kh, kw), before, strict=True)]
    filters = ops.pad(g, ops.reshape(g, w, (kh, kw, c)), (*before, 0), (*after, 0))
    filters = ops.transpose(g, ops.reshape(g, filters, (taps[0], s, taps[1], s * c)), (0, 2, 1, 3))
    filters = ops.reverse(g, ops.reshape(g, filters, (taps[0] * taps[1], s * s * c)), 0)
    filters = ops.reshape(g, filters, (1, *taps, s * s * c))
    copies = ops.concatenate(g, [dy] * (s * s), 3)
    copies = _padded(g, copies, (most[0], most[1]), (-least[0], -least[1]))
    phases = ops.depthwise_conv(g, copies, filters, stride=(1, 1), dilation=(1, 1))
    return ops.depth_to_space(g, phases, s)


def _fitted(g: GraphWriter, x: Tensor, dy: Tensor, geometry: Geometry) -> Tensor:
    """Images padded as for the forward pass and cut to the rows and columns that its windows saw."""
    low = geometry.padding
    seen = [(n - 1) * s + r + 1 for n, s, r in zip(dy.shape[1:3], geometry.stride, geometry.reach, strict=True)]
    return _padded(g, x, low, (seen[0] - x.shape[1] - low[0], seen[1] - x.shape[2] - low[1]))


def _weight_gradient(g: GraphWriter, dy: Tensor, x: Value, w: Value, geometry: Geometry) -> Value:
    if _by_channel(w, geometry):
        return _depthwise_weight_gradient(g, dy, as_image(g, x), w, geometry)
    if geometry.groups > 1:
        one = replace(geometry, groups=1)
        parts = zip(*_grouped(g, geometry.groups, (dy, 3), (as_image(g, x), 3)), strict=True)
        return _from_image(g, ops.concatenate(g, [_dense_weight_gradient(g, a, b, one) for a, b in parts], 0), w.shape)
    if len(x.shape) == 4 and not geometry.gathers:
        return _from_image(g, _swapped_weight_gradient(g, dy, arrange(g, x, _BATCH_LAST), geometry), w.shape)
    return _from_image(g, _dense_weight_gradient(g, dy, as_image(g, x), geometry), w.shape)


def _dense_weight_gradient(g: GraphWriter, dy: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """dLoss/dw as (O, kh, kw, I)."""
    if not geometry.gathers:
        return _swapped_weight_gradient(g, dy, ops.transpose(g, x, (3, 1, 2, 0)), geometry)
    blocks, given_left = blocks_for_gradient(x, geometry.kernel, geometry.padding, dy.shape[3])
    patches = blocks.patches(g, x)
    n, h, count, size = patches.shape
    seen = ops.reshape(g, patches, (n * h * count, size))
    given = ops.reshape(g, dy, (n * h * count, blocks.width * dy.shape[3]))
    if given_left:
        product = ops.matmul(g, given, seen, adjoint_a=True)
    else:
        product = ops.transpose(g, ops.matmul(g, seen, given, adjoint_a=True), (1, 0))
    return blocks.gradient(g, product, (dy.shape[3], *geometry.kernel, x.shape[3]))


def _swapped_weight_gradient(g: GraphWriter, dy: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """As `_dense_weight_gradient` of x (I, H, W, N), which is images as channels and channels as images.

    One convolution then sums over the batch and all places.
    """
    swapped, filters = _fitted(g, x, dy, geometry), ops.transpose(g, dy, (3, 1, 2, 0))
    found = ops.conv(g, swapped, filters, stride=geometry.dilation, dilation=geometry.stride)
    return ops.transpose(g, found, (3, 1, 2, 0))


def _depthwise_weight_gradient(g: GraphWriter, dy: Tensor, x: Tensor, w: Value, geometry: Geometry) -> Value:
    """Place by place of the kernel: what it saw times dLoss/dout, summed per channel.

    With a stride of s the s places side by side that start at a multiple of s see neighbouring pixels, one run of
    memory: they are multiplied and summed together.
    """
    (kh, kw), s, channels = geometry.kernel, geometry.stride[1], dy.shape[3]
    groups = sorted({j * geometry.dilation[1] // s for j in range(kw)})
    n, h, v, _ = dy.shape
    seen = _Seen.of(g, x, (h, v), geometry)
    given = ops.reshape(g, ops.concatenate(g, [dy] * s, 3), (n, h, 1, v * s * channels))
    sums = []
    for i in range(kh):
        for group in groups:
            product = ops.binary(g, "mul", seen.at(g, i * geometry.dilation[0], group), given)
            sums.append(ops.reduce(g, "sum", product, [1], keep=True))
    found = ops.reduce(g, "sum", ops.concatenate(g, sums, 1), [0], keep=False)
    found = ops.reduce(g, "sum", ops.reshape(g, found, (len(sums), v, s * channels)), [1], keep=False)
    found = ops.reshape(g, found, (kh, len(groups) * s, channels))
    places = [groups.index(j * geometry.dilation[1] // s) * s + j * geometry.dilation[1] % s for j in range(kw)]
    found = ops.concatenate(g, [ops.slices(g, found, 1, run) for run in _runs(places)], 1)
    order = (2, 3, 1, 0) if len(w.shape) == 4 else (2, 1, 0)
    return Value(ops.reshape(g, found, (*w.shape[2:], 1, channels)), w.shape, order)


def _runs(places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Growing numbers as few ranges (begin, end, 1)."""
    runs: list[tuple[int, int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1, 1)
        else:
            runs.append((place, place + 1, 1))
    return runs


@dataclass(frozen=True, slots=True)
class _Seen:
    """Padded images (N, rows / stride, stride, columns * C), of which a kernel's row sees one run a row."""

    images: Tensor
    stride: tuple[int, int]
    size: tuple[int, int]
    channels: int

    @staticmethod
    def of(g: GraphWriter, x: Tensor, size: Sequence[int], geometry: Geometry) -> _Seen:
        """`size` is that of a window's places, the output's; padded as for the forward pass."""
        n, h, w, c = x.shape
        (sh, sw), (ph, pw), (rh, rw) = geometry.stride, geometry.padding, geometry.reach
        grid = size[0] + rh // sh, size[1] + rw // sw
        x = _padded(g, x, geometry.padding, (grid[0] * sh - h - ph, grid[1] * sw - w - pw))
        return _Seen(ops.reshape(g, x, (n, grid[0], sh, grid[1] * sw * c)), (sh, sw), (size[0], size[1]), c)

    def at(self, g: GraphWriter, top: int, group: int) -> Tensor:
        """Rows top, top + stride, ... and all columns from group * stride on, (N, h, 1, w * stride * C)."""
        sh, run = self.stride[0], self.stride[1] * self.channels
        begin = (0, top // sh, top % sh, group * run)
        end = (self.images.shape[0], begin[1] + self.size[0], begin[2] + 1, begin[3] + self.size[1] * run)
        return ops.strided_slice(g, self.images, begin, end, (1, 1, 1, 1))
