import pytest
from toys import embeddings
from trees import Trees

from fedagg_edge.fleet.views import ParentView
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Adopt, Adopted, Problem, decode
from fedagg_edge.wire.parent_adopt import adopt
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import DRAINING, LEAVING

D1, E1, E2 = (
    Peer(NodeId("d1"), Tier.DEVICE, "7"),
    Peer(NodeId("e1"), Tier.EDGE, "2"),
    Peer(NodeId("e2"), Tier.EDGE, "3"),
)
MOVE = Adopt("d1", ("d1",), 3)


@pytest.fixture
def trees(tmp_path):
    made = Trees(tmp_path)
    yield made
    made.close()


def ask(ledger, peer, asked=MOVE):
    with ledger.transaction():
        return adopt(ParentView(ledger), peer, asked)


def test_the_root_gives_the_rows_at_once_and_says_the_same_again(trees):
    cloud = trees.ledgers["cloud"]
    cloud.append(NodeId("e1"), 1, dump_embeddings(embeddings("d1", 4)), key=1, by="child")
    first = ask(cloud, E2)
    assert decode(Adopted, first.body, Limits()) == Adopted(3, 1)
    cloud.append(NodeId("e2"), 1, dump_embeddings(embeddings("d2", 4)), key=1, by="child")
    assert ask(cloud, E2) == first
    assert (len(cloud.samples("e1")), len(cloud.samples("e2"))) == (0, 8)
    assert (cloud.fence("e1"), cloud.fence("e2")) == (0, 0)  # they have not moved themselves


def test_an_edge_notes_the_question_and_knows_the_node_but_not_as_a_child(trees):
    edge = trees.ledgers["e2"]
    for _ in range(2):
        answer = ask(edge, D1)
        assert (answer.status, decode(Problem, answer.body, Limits()).code) == (503, "adopting")
    assert [(a.node, a.child, a.fence) for a in edge.adoptions()] == [("d1", "d1", 3)]
    assert (edge.facts_of("d1").serial, edge.facts_of("d1").active) == ("7", False)


@pytest.mark.parametrize("asked", [Adopt("d1", ("d1",), 2), MOVE])
def test_an_older_move_and_the_same_number_by_another_parent_are_refused(trees, asked):
    cloud = trees.ledgers["cloud"]
    ask(cloud, E2)
    with pytest.raises(Refusal, match="move 3 is known") as e:
        ask(cloud, E1, asked)
    assert (e.value.status, e.value.code) == (409, "moved")
    ask(cloud, E1, Adopt("d1", ("d1",), 4))
    assert cloud.owner("d1").child == "e1"


def test_a_device_asks_for_itself_only(trees):
    with pytest.raises(Refusal, match="device 'd1': asked for 'd2', expected itself only"):
        ask(trees.ledgers["e1"], D1, Adopt("d2", ("d2",), 1))
    with pytest.raises(Refusal, match="asked for 'd2'"):
        ask(trees.ledgers["e2"], D1, Adopt("d1", ("d1", "d2"), 1))
    with pytest.raises(Refusal, match="is no child of this parent"):
        ask(trees.ledgers["cloud"], Peer(NodeId("e9"), Tier.EDGE, "9"))


def test_who_is_revoked_is_not_taken_in(trees):
    trees.ledgers["e2"].enrol(NodeId("d1"), Tier.DEVICE, "1")
    trees.ledgers["e2"].revoke(NodeId("d1"))
    with pytest.raises(Refusal, match="revoked"):
        ask(trees.ledgers["e2"], D1)


@pytest.mark.parametrize(("fact", "value", "code"), [(LEAVING, True, "leaving"), (DRAINING, 5.0, "draining")])
def test_a_parent_that_is_about_to_stop_takes_nobody_in(trees, fact, value, code):
    edge = trees.ledgers["e2"]
    edge.put(fact, value)
    with pytest.raises(Refusal) as e:
        ask(edge, D1)
    assert e.value.code == code
