import pytest
from ends import CHILD, Ends

from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.terms import admit, check_fence, draining, finished, refuse_while_draining


@pytest.fixture
def ends(tmp_path):
    made = Ends(tmp_path)
    yield made
    made.close()


def refused(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.status, caught.value.code


def test_who_is_let_in(ends):
    admit(ends.view, ends.peer)
    assert refused(admit, ends.view, Peer(NodeId("other"), Tier.DEVICE, "02")) == (403, "unknown")
    assert refused(admit, ends.view, Peer(CHILD, Tier.EDGE, "01")) == (403, "role")
    ends.parent.revoke(CHILD)
    assert refused(admit, ends.view, ends.peer) == (403, "revoked")


def test_fences(ends):
    check_fence(ends.view, ends.peer, 0)
    assert refused(check_fence, ends.view, ends.peer, 1) == (503, "adopting")
    ends.write("d7", 1)
    ends.parent.db.execute("UPDATE links SET fence = 2")
    assert refused(check_fence, ends.view, ends.peer, 1) == (409, "moved")


def test_draining_and_finished(ends):
    refuse_while_draining(ends.view)
    assert (draining(ends.view), finished(ends.view)) == (None, False)
    ends.parent.put("draining", 5)
    ends.parent.put("finished", True)
    assert (draining(ends.view), finished(ends.view)) == (5.0, True)
    assert refused(refuse_while_draining, ends.view) == (503, "draining")
