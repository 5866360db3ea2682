import pytest

from fedagg_edge.fleet import moving
from fedagg_edge.fleet.config import ParentConfig
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId

A, B, C = "https://a:1", "https://b:1", "https://c:1"


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.open(tmp_path / "l", node=NodeId("d1"), federation="f", options=Options())
    yield made
    made.close()


def test_each_attempt_has_a_number_of_its_own_until_one_is_over(ledger):
    assert moving.under_way(ledger) is None
    assert (moving.begin(ledger, B), moving.begin(ledger, C)) == (1, 2)
    assert moving.under_way(ledger) == (C, 2)
    ledger.put("noticed", 7)
    ledger.rebase((), 2)
    moving.finish(ledger)
    assert (moving.under_way(ledger), ledger.get("noticed")) == (None, 0)
    assert moving.begin(ledger, A) == 3


def test_where_to_connect(ledger):
    parent = ParentConfig(url=A, fallback=(B,))
    assert moving.open_targets(ledger, parent) == (A, B)
    moving.arrived(ledger, parent, A)
    moving.begin(ledger, C)
    assert moving.open_targets(ledger, parent) == (C, A, B)  # also after a restart
    ledger.rebase((), 1)
    moving.finish(ledger)
    assert moving.open_targets(ledger, parent) == (C, A, B)
    assert moving.targets(ledger, parent, (B,)) == (B, C, A)


def test_another_parent_in_the_configuration_is_a_move(ledger):
    moving.arrived(ledger, ParentConfig(url=A), A)
    assert moving.open_targets(ledger, ParentConfig(url=B)) == (B, A)
    assert moving.under_way(ledger) == (B, 1)
    assert moving.open_targets(ledger, ParentConfig(url=B)) == (B, A)
    assert moving.under_way(ledger) == (B, 1)


def test_the_configuration_may_name_where_the_node_has_gone_already(ledger):
    moving.arrived(ledger, ParentConfig(url=A), B)
    assert moving.open_targets(ledger, ParentConfig(url=B)) == (B,)
    assert moving.under_way(ledger) is None


def test_who_refuses_is_followed_by_the_next_of_all(ledger):
    parent = ParentConfig(url=A, fallback=(B, C))
    moving.arrived(ledger, parent, A)
    assert [moving.after(ledger, parent, u) for u in (A, B, C, "https://typo:1")] == [B, C, A, A]
    assert moving.after(ledger, ParentConfig(url=A), A) is None


def test_the_operators_wish(ledger):
    assert moving.wanted(ledger) == ()
    moving.want(ledger, [B, C])
    assert moving.wanted(ledger) == (B, C)
    ledger.put(moving.WANTED, None)
    assert moving.wanted(ledger) == ()
