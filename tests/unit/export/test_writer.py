import numpy as np
from ai_edge_litert.interpreter import Interpreter

from fedagg_edge.export import ops
from fedagg_edge.export.writer import ModelWriter, schema


def model_of(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def test_a_written_graph_runs_for_every_batch_size() -> None:
    model = ModelWriter("a test")
    g = model.graph("twice")
    x = g.input("x", (-1, 3))
    g.finish("twice", {"y": ops.binary(g, "add", x, x)})
    runner = Interpreter(model_content=model.finish({})).get_signature_runner("twice")
    for rows in (1, 4, 2):
        x_N3 = np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3)
        np.testing.assert_array_equal(runner(x=x_N3)["y"], 2 * x_N3)


def test_equal_operators_and_constants_are_written_once_and_unused_ones_not_at_all() -> None:
    model = ModelWriter("a test")
    g = model.graph("g")
    x = g.input("x", (-1, 3))
    g.input("unused", (2,))
    ops.unary(g, "exp", x)
    a, b = (ops.binary(g, "mul", ops.unary(g, "tanh", x), g.constant(2.0)) for _ in range(2))
    assert a is b
    g.finish("g", {"y": a})
    graph = model_of(model.finish({})).subgraphs[0]
    assert len(graph.operators) == 2
    assert len(graph.tensors) == 5  # x, unused, tanh, 2.0, the product


def test_tensors_in_between_tell_their_rank_and_those_of_the_signature_their_sizes() -> None:
    model = ModelWriter("a test")
    g = model.graph("g")
    x = g.input("x", (-1, 3))
    y = ops.reshape(g, ops.unary(g, "exp", ops.unary(g, "tanh", x)), (-1, 3, 1))
    g.finish("g", {"y": y})
    content = model.finish({})
    graph = model_of(content).subgraphs[0]
    named = {t.name: list(t.shape) for t in graph.tensors if t.name}
    assert named == {b"x": [1, 3], b"y": [1, 3, 1]}
    between = [list(t.shape) for t in graph.tensors if not t.name and not t.buffer]
    assert between == [[1, 1], [1, 1]]
    x_N3 = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = Interpreter(model_content=content).get_signature_runner("g")(x=x_N3)["y"]
    np.testing.assert_allclose(result, np.exp(np.tanh(x_N3))[..., None], rtol=1e-6)


def test_equal_vectors_share_their_bytes_however_large_the_file_grows() -> None:
    model = ModelWriter("a test")
    g = model.graph("g")
    x = y = g.input("x", (-1, 2, 2, 7))
    for i in range(500):
        y = ops.binary(g, "add", y, g.constant(float(i)))
    g.finish("g", {"y": y})
    big = np.arange(20_000, dtype=np.float32).tobytes()
    content = model.finish({"big": big, "small": b"abc"})
    assert len(content) < len(big) + 500 * 90
    read = model_of(content)
    assert [bytes(read.buffers[m.buffer].data) for m in read.metadata] == [big, b"abc"]
    result = Interpreter(model_content=content).get_signature_runner("g")(x=np.zeros((1, *x.shape[1:]), np.float32))
    assert result["y"][0, 0, 0, 0] == sum(range(500))


def test_metadata_can_be_replaced_and_leaves_nothing_behind() -> None:
    model = ModelWriter("a test")
    g = model.graph("g")
    g.finish("g", {"y": ops.unary(g, "exp", g.input("x", (-1, 2)))})
    first = model.finish({"m": b"x" * 1000})
    assert len(model.finish({"m": b"y"})) < len(first) - 900
    assert model.finish({"m": b"x" * 1000}) == first


def test_alike_operators_of_two_graphs_stand_once_and_both_graphs_keep_their_meaning() -> None:
    """The second graph is the first but for an operator in front, so its tensors have other numbers until the end."""

    def size(graphs: int) -> tuple[int, bytes]:
        model = ModelWriter("a test")
        for name in ("plain", "shifted")[:graphs]:
            g = model.graph(name)
            x = g.input("x", (-1, 3))
            y = x if name == "plain" else ops.binary(g, "add", x, g.constant(7.0))
            for _ in range(20):
                y = ops.binary(g, "sub", ops.unary(g, "abs", y), g.constant(1.0))
            g.finish(name, {"y": y})
        content = model.finish({})
        assert content == model.finish({})
        return len(content), content

    (one, _), (two, content) = size(1), size(2)
    assert two - one < 0.4 * one  # offsets of operators and tensors; their tables again would be 0.6
    x_N3 = np.array([[-40.0, 3.0, 30.0]], np.float32)
    for name, start in (("plain", x_N3), ("shifted", x_N3 + 7)):
        expected = start
        for _ in range(20):
            expected = np.abs(expected) - 1
        runner = Interpreter(model_content=content).get_signature_runner(name)
        np.testing.assert_array_equal(runner(x=x_N3)["y"], expected)
