import pytest
from pairs import DEVICE, EDGE, LINK, PEER, Pair

from fedagg_edge.fleet.views import ParentView
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.terms import DRAINING, admit, check_fence, draining, finished, refuse_while_draining


@pytest.fixture
def ledger(tmp_path):
    pair = Pair(tmp_path)
    yield ParentView(pair.parent)
    pair.close()


def refused(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.status, caught.value.code


def test_only_children_in_their_role_are_admitted(ledger):
    admit(ledger, PEER)
    assert refused(admit, ledger, Peer(NodeId("stranger"), Tier.DEVICE, "2")) == (403, "unknown")
    assert refused(admit, ledger, Peer(DEVICE, Tier.EDGE, "1")) == (403, "role")
    ledger.ledger.revoke(DEVICE)
    assert refused(admit, ledger, PEER) == (403, "revoked")


def test_requests_from_before_a_move(ledger):
    check_fence(ledger, PEER, 0)
    assert refused(check_fence, ledger, PEER, 1) == (503, "adopting")


def test_draining_and_finished_are_facts(ledger):
    assert (draining(ledger), finished(ledger)) == (None, False)
    refuse_while_draining(ledger)
    ledger.put(DRAINING, 7)
    ledger.put("finished", True)
    assert (draining(ledger), finished(ledger)) == (7.0, True)
    assert refused(refuse_while_draining, ledger) == (503, "draining")


def test_a_link_is_the_childs_to_this_parent(tmp_path):
    pair = Pair(tmp_path)
    assert pair.end.terms.link(DEVICE) == LINK
    assert LINK.parent == EDGE
    pair.close()
