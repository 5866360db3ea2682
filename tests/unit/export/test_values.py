import pytest

from fedagg_edge.errors import ExportError
from fedagg_edge.export.values import CHANNELS_LAST, Value, align, arrange, elementwise_order, plain
from fedagg_edge.export.writer import GraphWriter, ModelWriter


@pytest.fixture
def g() -> GraphWriter:
    return ModelWriter("a test").graph("g")


def test_a_permutation_moves_nothing_until_it_must(g: GraphWriter) -> None:
    x = plain(g.input("x", (-1, 3, 4, 5)))
    moved = x.permuted((0, 2, 3, 1))
    assert moved.shape == (-1, 4, 5, 3)
    assert moved.tensor is x.tensor
    assert moved.permuted((0, 3, 1, 2)).order == x.order
    assert arrange(g, moved).shape == (-1, 4, 5, 3)
    assert arrange(g, x, CHANNELS_LAST[4]) is arrange(g, moved)


def test_an_expanded_axis_is_repeated_when_it_must(g: GraphWriter) -> None:
    small = g.input("x", (-1, 3, 1))
    value = Value(small, (-1, 3, 4), (0, 1, 2))
    assert value.stored == (-1, 3, 1)
    assert arrange(g, value, full=False) is small
    assert arrange(g, value).shape == (-1, 3, 4)
    with pytest.raises(ExportError, match="repeated for every row"):
        arrange(g, Value(g.input("y", (1, 3)), (-1, 3), (0, 1)))


def test_broadcasting_follows_the_largest(g: GraphWriter) -> None:
    image = Value(g.input("x", (-1, 8, 8, 3)), (-1, 3, 8, 8), CHANNELS_LAST[4])
    vector = plain(g.input("v", (1, 3, 1, 1)))
    assert elementwise_order([vector, image], 4) == CHANNELS_LAST[4]
    assert align(g, vector, image.order).shape == (3,)
    row = plain(g.input("r", (8,)))
    assert align(g, row, image.order).shape == (1, 1, 8, 1)
