import msgspec
import pytest

from fedagg_edge.fleet import receipts
from fedagg_edge.fleet.receipts import Stamped
from fedagg_edge.ledger.erase import Receipt
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.open(tmp_path / "l", node=NodeId("cloud"), federation="f", options=Options(tier=Tier.CLOUD))
    yield made
    made.close()


def stamped(order, node="cloud", rows=3, scrubbed=True):
    receipt = Receipt(
        node=node, origin="d1", rows=rows, knowledge=1, freed=9, digests={"e": "ab"}, at=5.0, scrubbed=scrubbed
    )
    return Stamped(order=order, receipt=receipt)


def test_a_receipt_is_kept_once_an_order_and_its_last_word_counts(ledger):
    for one in (stamped("o1", scrubbed=False), stamped("o2"), stamped("o1")):
        receipts.keep(ledger, one)
    assert receipts.known(ledger, "o1") == [stamped("o1")]
    assert len(ledger.get("receipts/cloud")) == 2


def test_those_from_below_are_found_with_it_and_junk_is_passed_over(ledger):
    receipts.keep(ledger, stamped("o1"))
    ledger.put("receipts/edge-0", [b"junk", msgspec.msgpack.encode(stamped("o1", "edge-0", rows=7))])
    assert [(s.receipt.node, s.receipt.rows) for s in receipts.known(ledger, "o1")] == [("cloud", 3), ("edge-0", 7)]
    assert receipts.known(ledger, "o9") == []


def test_for_people():
    told = receipts.shown(msgspec.msgpack.encode(stamped("o1")))
    assert (told["order"], told["origin"], told["rows"]) == ("o1", "d1", 3)
    assert receipts.shown(b"\xff\x00\x01") == {"unreadable": 3}


def test_old_ones_go(ledger):
    for n in range(300):
        receipts.keep(ledger, stamped(f"o{n}"))
    assert len(ledger.get("receipts/cloud")) == 256
    assert receipts.known(ledger, "o0") == []
    assert receipts.known(ledger, "o299") != []


def test_a_childs_own_counts_from_the_child_alone(ledger):
    for name in ("a", "b"):
        ledger.enrol(NodeId(name), Tier.EDGE, name)
    ledger.put("receipts/a", [msgspec.msgpack.encode(stamped("o1", node=n)) for n in ("a", "b", "below-a", "cloud")])
    assert {s.receipt.node for s in receipts.known(ledger, "o1")} == {"a", "below-a"}
    ledger.put("receipts/b", [msgspec.msgpack.encode(stamped("o1", node="b"))])
    assert {s.receipt.node for s in receipts.known(ledger, "o1")} == {"a", "below-a", "b"}


def test_a_receipt_of_many_links_fits_into_a_message(ledger):
    digests = {"cloud": "00"} | {f"edge-{n}": "ab" * 32 for n in range(200)}
    long = msgspec.structs.replace(stamped("o1").receipt, digests=digests)
    receipts.keep(ledger, Stamped(order="o1", receipt=long, below=200))
    (found,) = receipts.known(ledger, "o1")
    assert (found.receipt.rows, found.below, found.receipt.digests["cloud"]) == (3, 200, "00")
    assert set(found.receipt.digests) == {"cloud", "200 links"}
    assert len(ledger.get("receipts/cloud")[0]) <= receipts.MOST_BYTES


def test_what_older_software_kept_and_is_too_long_travels_shortened_and_once(ledger):
    """The parent would refuse each exchange that brings it, and the link would stand still for ever."""
    digests = {"cloud": "00"} | {f"edge-{n}": "ab" * 32 for n in range(200)}
    long = msgspec.structs.replace(stamped("o1").receipt, digests=digests)
    blob = msgspec.msgpack.encode(Stamped(order="o1", receipt=long, below=200))
    junk = b"\xc1" * 5000
    ledger.put("receipts/cloud", [blob, junk, msgspec.msgpack.encode(stamped("o2"))])
    first, second = receipts.pending(ledger)
    assert len(first) <= receipts.MOST_BYTES < len(blob)
    assert set(msgspec.msgpack.decode(first, type=Stamped).receipt.digests) == {"cloud", "200 links"}
    receipts.mark_sent(ledger, [first])
    assert receipts.pending(ledger) == (second,)
    receipts.mark_sent(ledger, [second])
    assert receipts.pending(ledger) == ()
