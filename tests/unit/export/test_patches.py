from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fedagg_edge.export import ops
from fedagg_edge.export.patches import Blocks, blocks_for_gradient, blocks_for_product
from fedagg_edge.export.writer import GraphWriter, ModelWriter, Tensor

Case = tuple[tuple[int, int], int, int, tuple[int, int], tuple[int, int], int]
RNG = np.random.default_rng(0)
CASES = [  # image height and width, channels, outputs, kernel, padding, pixels a block
    ((6, 8), 3, 5, (3, 3), (1, 1), 1),
    ((6, 8), 3, 5, (3, 3), (1, 1), 2),
    ((6, 8), 3, 5, (3, 3), (1, 1), 4),
    ((6, 8), 1, 2, (3, 3), (1, 1), 8),
    ((5, 7), 2, 3, (2, 4), (0, 0), 2),
    ((4, 4), 2, 3, (3, 3), (2, 2), 3),
    ((1, 12), 2, 3, (1, 5), (0, 2), 4),
    ((1, 12), 2, 3, (1, 5), (0, 0), 1),
    ((4, 4), 3, 2, (1, 1), (0, 0), 1),
    ((6, 6), 2, 2, (6, 6), (0, 0), 1),
]


def run(function: Callable[[GraphWriter, Tensor, Tensor], Tensor], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A graph of `a`, whose first axis is the batch, and `b`, which has one too if it is as long as an image's."""
    model = ModelWriter("a test")
    g = model.graph("g")
    shape = (-1, *b.shape[1:]) if len(b) == len(a) else b.shape
    y = function(g, g.input("a", (-1, *a.shape[1:])), g.input("b", shape))
    g.finish("g", {"y": y})
    return Interpreter(model_content=model.finish({})).get_signature_runner("g")(a=a, b=b)["y"]


def convolved(x: np.ndarray, w: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """Place by place of the kernel, in float64."""
    (ph, pw), (kh, kw) = padding, w.shape[1:3]
    x = np.pad(x.astype(np.float64), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    h, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    return sum(x[:, i : i + h, j : j + width] @ w[:, i, j].T.astype(np.float64) for i in range(kh) for j in range(kw))


@pytest.mark.parametrize("case", CASES)
def test_a_product_of_patches_is_the_convolution(case: Case) -> None:
    size, c, o, kernel, padding, width = case
    x, w = RNG.standard_normal((9, *size, c), np.float32), RNG.standard_normal((o, *kernel, c), np.float32)
    blocks = Blocks(kernel, padding, width)
    expected = convolved(x, w, padding)

    def product(g: GraphWriter, a: Tensor, b: Tensor) -> Tensor:
        patches = blocks.patches(g, a)
        out = ops.matmul(g, ops.reshape(g, patches, _rows(patches)), blocks.filters(g, b), adjoint_b=True)
        return ops.reshape(g, out, (-1, *expected.shape[1:]))

    np.testing.assert_allclose(run(product, x, w), expected, rtol=1e-4, atol=1e-5)


def _rows(patches: Tensor) -> tuple[int, int]:
    n, h, count, size = patches.shape
    return n * h * count, size


@pytest.mark.parametrize("case", CASES)
def test_the_filters_gradient_is_the_correlation(case: Case) -> None:
    size, c, o, kernel, padding, width = case
    x, blocks = RNG.standard_normal((3, *size, c), np.float32), Blocks(kernel, padding, width)
    dy = RNG.standard_normal(convolved(x, np.zeros((o, *kernel, c)), padding).shape).astype(np.float32)
    (ph, pw), (kh, kw) = padding, kernel
    padded = np.pad(x.astype(np.float64), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    expected = np.zeros((o, *kernel, c))
    for i in range(kh):
        for j in range(kw):
            seen = padded[:, i : i + dy.shape[1], j : j + dy.shape[2]]
            expected[:, i, j] = np.einsum("nhwo,nhwc->oc", dy, seen)

    def gradient(g: GraphWriter, a: Tensor, b: Tensor) -> Tensor:
        patches = blocks.patches(g, a)
        rows = _rows(patches)
        given = ops.reshape(g, b, (rows[0], width * o))
        product = ops.matmul(g, given, ops.reshape(g, patches, rows), adjoint_a=True)
        return blocks.gradient(g, product, expected.shape)

    np.testing.assert_allclose(run(gradient, x, dy), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [1, 2, 7, 8, 12, 30, 32])
def test_blocks_fill_a_row(width: int) -> None:
    x = Tensor(0, (-1, 4, width, 3))
    for outputs in (1, 8, 16, 40, 128):
        chosen = [blocks_for_product(x, (3, 3), (1, 1), outputs), blocks_for_gradient(x, (3, 3), (1, 1), outputs)[0]]
        assert all(width % blocks.width == 0 for blocks in chosen)


def test_few_filters_take_wide_blocks_and_many_narrow_ones() -> None:
    x = Tensor(0, (-1, 32, 32, 3))
    widths = [blocks_for_product(x, (3, 3), (1, 1), outputs).width for outputs in (8, 16, 128)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1
