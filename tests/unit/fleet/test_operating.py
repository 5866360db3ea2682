import pytest

from fedagg_edge.errors import ConfigError, StorageError
from fedagg_edge.fleet import moving, operating
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import MoveTo, decode
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import LEAVING

URL = "https://hall.example:9443"


@pytest.fixture
def state_of(tmp_path):
    """A node's state folder and an open ledger on it."""
    opened = []

    def make(name, tier):
        folder = tmp_path / name
        folder.mkdir()
        ledger = Ledger.open(folder / "ledger.sqlite", node=NodeId(name), federation="f", options=Options(tier=tier))
        opened.append(ledger)
        return folder, ledger

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def edge(state_of):
    folder, ledger = state_of("e1", Tier.EDGE)
    for name in ("d1", "d2"):
        ledger.enrol(NodeId(name), Tier.DEVICE, "01")
    return folder, ledger


def told(ledger, node):
    return [(n.kind, decode(MoveTo, n.body, Limits()).urls) for n in ledger.notices(NodeId(node), 0)]


def test_the_node_itself_is_told_where_it_runs(state_of):
    folder, ledger = state_of("d1", Tier.DEVICE)
    beside = operating.open_node(folder)
    operating.tell_to_move(beside, folder, NodeId("d1"), [URL])
    beside.close()
    assert moving.wanted(ledger) == (URL,)


def test_a_child_is_told_by_its_parent(edge):
    folder, ledger = edge
    operating.tell_to_move(ledger, folder, NodeId("d1"), [URL])
    assert (told(ledger, "d1"), told(ledger, "d2")) == ([("move", (URL,))], [])


def test_what_cannot_be_meant_is_said(edge, state_of, tmp_path):
    folder, ledger = edge
    with pytest.raises(ConfigError, match="got 'd9', expected 'e1' itself or one of its children: d1, d2"):
        operating.tell_to_move(ledger, folder, NodeId("d9"), [URL])
    with pytest.raises(ConfigError, match="expected https://host:port"):
        operating.tell_to_move(ledger, folder, NodeId("d1"), ["hall.example"])
    folder, cloud = state_of("c", Tier.CLOUD)
    with pytest.raises(ConfigError, match="the cloud, which has no parent"):
        operating.tell_to_move(cloud, folder, NodeId("c"), [URL])
    with pytest.raises(ConfigError, match="only an edge's children can go elsewhere"):
        operating.drain(cloud, folder)
    with pytest.raises(ConfigError, match="no node's state is here"):
        operating.open_node(tmp_path / "nothing")


def test_a_state_that_cannot_be_read_is_not_called_missing(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(ConfigError, match="no node's state is here"):
        operating.open_node(tmp_path)
    Database(tmp_path / "ledger.sqlite").close()  # killed before it said whose it is
    with pytest.raises(ConfigError, match="has not run yet"):
        operating.open_node(tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(b"damaged" * 1000)
    with pytest.raises(StorageError, match="damaged"):
        operating.open_node(tmp_path)


def test_a_drain_tells_all_once_and_ends_when_nobody_and_nothing_is_left(edge, toys_rows):
    folder, ledger = edge
    ledger.append(NodeId("d1"), 1, dump_embeddings(toys_rows), key=1, by="child")
    operating.drain(ledger, folder)
    operating.drain(ledger, folder)
    assert told(ledger, "d1") == told(ledger, "d2") == [("move", ())]
    assert operating.remaining(ledger) == operating.Remaining(("d1",), 1)
    seen = []

    def leave(seconds):
        ledger.leave(NodeId("d1"))
        ledger.db.execute("DELETE FROM outbox")

    assert not operating.drain_until_empty(ledger, 60.0, seen.append, sleep=leave)
    assert seen == [operating.Remaining(("d1",), 1)]
    operating.serve_again(ledger)
    assert ledger.get(LEAVING) is None
    assert told(ledger, "d2") == []  # it was away: it must not leave a parent that serves again


def test_a_drain_that_names_another_place_tells_those_who_are_still_here(edge):
    folder, ledger = edge
    operating.drain(ledger, folder)
    ledger.leave(NodeId("d1"))
    operating.drain(ledger, folder, [URL])
    operating.drain(ledger, folder, [URL])
    operating.drain(ledger, folder)
    assert told(ledger, "d1") == [("move", ())]
    assert told(ledger, "d2") == [("move", ()), ("move", (URL,))]


def test_a_drain_again_tells_who_came_since(edge):
    folder, ledger = edge
    operating.drain(ledger, folder, [URL])
    ledger.enrol(NodeId("d3"), Tier.DEVICE, "03")
    operating.drain(ledger, folder)
    assert [told(ledger, name) for name in ("d1", "d2", "d3")] == [[("move", (URL,))]] * 3


def test_a_drain_that_is_cut_off_tells_the_children_when_it_is_run_again(edge, monkeypatch):
    folder, ledger = edge

    def cut_off(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "notify", cut_off)
        with pytest.raises(KeyboardInterrupt):
            operating.drain(ledger, folder)
    assert ledger.get(LEAVING) is None
    operating.drain(ledger, folder)
    assert told(ledger, "d1") == [("move", ())]


def test_a_drain_gives_up_after_its_time(edge, toys_rows):
    ledger = edge[1]
    ledger.append(NodeId("d1"), 1, dump_embeddings(toys_rows), key=1, by="child")
    moments = iter(range(100))
    left = operating.drain_until_empty(
        ledger, 3.0, lambda left: None, sleep=lambda s: None, clock=lambda: float(next(moments))
    )
    assert left.children == ("d1",)


@pytest.fixture
def toys_rows():
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from toys import embeddings

    return embeddings("d1", 3)
