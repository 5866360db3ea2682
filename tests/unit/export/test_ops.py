from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fedagg_edge.errors import ExportError
from fedagg_edge.export import ops
from fedagg_edge.export.writer import GraphWriter, ModelWriter, Tensor

X = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype(np.float32)

_ABOVE = np.where(X > 0, X, 1)


def run(function: Callable[[GraphWriter, Tensor], Tensor]) -> np.ndarray:
    """`function` of X in the runtime; its result must have the shape that it says."""
    model = ModelWriter("a test")
    g = model.graph("g")
    y = function(g, g.input("x", (-1, *X.shape[1:])))
    g.finish("g", {"y": y})
    found = Interpreter(model_content=model.finish({})).get_signature_runner("g")(x=X)["y"]
    assert found.shape == tuple(-2 * d if d < 0 else d for d in y.shape)
    return found


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda g, x: ops.reshape(g, x, (-4, 18)), X.reshape(8, 18)),
        (lambda g, x: ops.reshape(g, ops.reshape(g, x, (-4, 18)), x.shape), X),
        (lambda g, x: ops.transpose(g, x, (0, 3, 1, 2)), X.transpose(0, 3, 1, 2)),
        (lambda g, x: ops.reverse(g, x, 2), X[:, :, ::-1]),
        (lambda g, x: ops.pad(g, x, (0, 1, 0, 0), (0, 0, 2, 0)), np.pad(X, ((0, 0), (1, 0), (0, 2), (0, 0)))),
        (lambda g, x: ops.pad(g, x, (0, 0, 0, 1), (0, 1, 0, 0)), np.pad(X, ((0, 0), (0, 1), (0, 0), (1, 0)))),
        (lambda g, x: ops.binary(g, "sub", x, g.constant(X[0, 0, 0])), X - X[0, 0, 0]),
        (lambda g, x: ops.binary(g, "sub", g.constant(X[0, 0, 0]), x), X[0, 0, 0] - X),
        (
            lambda g, x: ops.binary(g, "mul", ops.reshape(g, x, (-8, 9)), ops.reshape(g, x, (-8, 9))),
            (X * X).reshape(16, 9),
        ),
        (lambda g, x: ops.relu(g, ops.binary(g, "add", x, g.constant(X[0, 0, 0]))), np.maximum(X + X[0, 0, 0], 0)),
        (lambda g, x: ops.tile(g, x, (1, 1, 2, 1)), np.tile(X, (1, 1, 2, 1))),
        (lambda g, x: ops.strided_slice(g, x, (0, 1, 0, 0), (2, 4, 6, 3), (1, 1, 2, 1)), X[:, 1:, ::2]),
        (lambda g, x: ops.slices(g, x, 3, (1, 3, 1)), X[..., 1:3]),
        (lambda g, x: ops.split(g, x, 2, [1, 5])[1], X[:, :, 1:]),
        (lambda g, x: ops.concatenate(g, [x, x], 3), np.concatenate([X, X], 3)),
        (lambda g, x: ops.reduce(g, "sum", x, [1, 2], keep=False), X.sum((1, 2))),
        (lambda g, x: ops.reduce(g, "max", x, [3], keep=True), X.max(3, keepdims=True)),
        (lambda g, x: ops.matmul(g, x, x, adjoint_b=True), X @ X.swapaxes(2, 3)),
        (lambda g, x: ops.max_pool(g, x, (2, 3), (2, 3)), X.reshape(2, 2, 2, 2, 3, 3).max((2, 4))),
        (lambda g, x: ops.average_pool(g, x, (4, 6), (1, 1)), X.mean((1, 2), keepdims=True)),
        (
            lambda g, x: ops.select(g, ops.compare(g, "greater", x, g.constant(0.0)), x, g.constant(1.0)),
            np.where(X > 0, X, 1),
        ),
    ],
)
def test_what_an_operator_does(function: Callable[[GraphWriter, Tensor], Tensor], expected: np.ndarray) -> None:
    np.testing.assert_allclose(run(function), expected, rtol=1e-6, atol=1e-6)


def test_reshapes_there_and_back_are_none() -> None:
    g = ModelWriter("a test").graph("g")
    x = g.input("x", (-1, 4, 3))
    assert ops.reshape(g, ops.reshape(g, x, (-4, 3)), x.shape) is x
    assert ops.transpose(g, x, (0, 1, 2)) is x


def test_shapes_that_do_not_fit_are_refused() -> None:
    g = ModelWriter("a test").graph("g")
    x = g.input("x", (-1, 4))
    with pytest.raises(ExportError, match="which do not fit"):
        ops.binary(g, "add", x, g.input("y", (3,)))
    with pytest.raises(ExportError, match="at most one dimension"):
        ops.reshape(g, x, (-1, -4))
