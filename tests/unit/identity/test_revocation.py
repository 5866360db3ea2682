from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import folder, revocation
from fedagg_edge.identity.facts import Facts, Issuer, IssuerKind
from fedagg_edge.identity.renewal import GRACE, LONGEST, SKEW
from fedagg_edge.identity.revocation import Revocations, check, decode, encode, load, merge, prune, revoke, save, update
from fedagg_edge.records import NodeId, Tier

times = st.floats(0, 1e10)
lists = st.builds(
    Revocations,
    version=st.integers(0, 1000),
    serials=st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=4), times, max_size=4),
    nodes=st.dictionaries(st.text("abc", min_size=1, max_size=2), times, max_size=4),
)


def facts(made=1000.0):
    issuer = Issuer(IssuerKind.EDGE, NodeId("e"), "1f")
    return Facts(NodeId("d"), Tier.DEVICE, "fed", "ab", made - SKEW, made + 100, issuer)


def test_serials_issuers_and_nodes():
    check(Revocations(), facts())
    for words in ({"serial": "ab"}, {"serial": "1f"}, {"node": "d"}):
        with pytest.raises(PermissionDenied, match="revoked"):
            check(revoke(Revocations(), 1000.0, **words), facts())
    check(revoke(Revocations(), 1000.0, node="other", serial="ac"), facts())
    with pytest.raises(IdentityError, match="hexadecimal"):
        revoke(Revocations(), 1.0, serial="AB")


def test_a_node_that_was_enrolled_again_works():
    check(revoke(Revocations(), 1000.0, node="d"), facts(made=1001.0))


@given(lists, lists)
def test_merging_loses_nothing_and_ends(ours, theirs):
    both = merge(ours, theirs)
    assert both.serials.keys() == ours.serials.keys() | theirs.serials.keys()
    assert all(both.nodes[n] >= known.nodes[n] for known in (ours, theirs) for n in known.nodes)
    assert merge(both, theirs) is both
    assert merge(both, ours) is both
    assert both is ours or both.version > max(ours.version, theirs.version)
    other = merge(theirs, ours)
    assert (both.serials, both.nodes) == (other.serials, other.nodes)


@given(lists)
def test_bytes_are_read_back(known):
    assert decode(encode(known)) == known
    assert encode(decode(encode(known))) == encode(known)


@pytest.mark.parametrize("wrong", [b"", b"[]", b'{"version":-1}', b'{"x":1}', b'{"serials":{"a":"b"}}', b"\xff" * 9])
def test_other_bytes_are_refused(wrong):
    with pytest.raises(IdentityError, match="revocation list"):
        decode(wrong)


def test_a_list_that_is_too_large_is_not_parsed():
    with pytest.raises(IdentityError, match="at most"):
        decode(b" " * ((8 << 20) + 1))


def test_a_list_that_is_short_is_not_pruned():
    """By a clock that was 120 days ahead for a moment all revoked nodes were let in again, for as long as they had a
    certificate: an entry that is gone does not come back with the right time."""
    known = revoke(Revocations(), 1000.0, node="d", serial="ab")
    assert prune(known, 1e10) is known


def test_pruning_keeps_what_may_still_be_renewed(monkeypatch):
    monkeypatch.setattr(revocation, "FEW", 0)
    known = revoke(Revocations(), 1000.0, node="d", serial="ab")
    assert prune(known, 1000.0 + LONGEST + GRACE) is known
    later = prune(known, 1001.0 + LONGEST + GRACE)
    assert (later.nodes, later.serials, later.version) == ({}, {"ab": 1000.0}, known.version + 1)


def test_on_disk(tmp_path):
    assert load(tmp_path) == Revocations()
    known = revoke(Revocations(), 5.0, node="d")
    save(tmp_path, known)
    assert load(tmp_path) == known
    (tmp_path / folder.REVOKED).write_text("{")
    with pytest.raises(IdentityError):
        load(tmp_path)


def test_two_writers_lose_nothing(tmp_path):
    """An operator revokes while the list comes down from the parent."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: update(tmp_path, lambda k: revoke(k, 5.0, node=f"n{n}")), range(40)))
    assert len(load(tmp_path).nodes) == 40
    before = load(tmp_path)
    assert update(tmp_path, lambda known: known) == before
    assert encode(Revocations()) == b'{"version":0,"serials":{},"nodes":{}}'
