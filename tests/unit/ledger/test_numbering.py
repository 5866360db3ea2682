import pytest

from fedagg_edge.ledger import numbering
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.records import Tier


def test_a_ledger_is_fresh_until_all_has_been_seen_and_a_restart_changes_nothing(make):
    assert numbering.is_fresh(make("d1", Tier.DEVICE).db)
    again = make("d1", Tier.DEVICE)
    assert numbering.is_fresh(again.db)
    numbering.end_fresh(again.db)
    numbering.end_fresh(again.db)
    assert not numbering.is_fresh(make("d1", Tier.DEVICE).db)


def test_what_came_to_a_fresh_ledger_is_noted(make):
    edge = make("edge-a", Tier.EDGE)
    assert numbering.joined_at(edge.db) == 0
    numbering.end_fresh(edge.db, 7)
    assert numbering.joined_at(make("edge-a", Tier.EDGE).db) == 7
    numbering.end_fresh(edge.db)  # another parent's log came to what was there
    assert numbering.joined_at(edge.db) == 0


def test_who_has_no_parent_has_nothing_to_hear_of_it(cloud):
    assert not numbering.is_fresh(cloud.db)


def test_a_ledger_is_begun_once_however_many_open_it_first(make, monkeypatch):
    """A server's two processes may: the second must not have what the first has done since undone."""
    real = Ledger.get
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "get", lambda ledger, key: other(real(ledger, key), key))

        def other(known, key, done=[]):  # noqa: B006
            if key == "ledger.identity" and not done:
                done.append(key)
                numbering.end_fresh(make("edge-a", Tier.EDGE).db)
            return known

        late = make("edge-a", Tier.EDGE)
    assert not numbering.is_fresh(late.db)


def test_counters_only_rise(device):
    assert numbering.counters_given(device.db) == 0
    for counter in (4, 2, 4):
        numbering.raise_counters(device.db, counter)
        assert numbering.counters_given(device.db) == 5


@pytest.mark.parametrize("number", [1 << 61, 1 << 62, (1 << 64) - 1])
def test_a_number_that_nobody_gets_to_by_counting_raises_nothing(device, number):
    numbering.raise_counters(device.db, number)
    numbering.raise_keys(device.db, number)
    assert numbering.counters_given(device.db) == 0
    assert device.db.all("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'") == []


def test_keys_only_rise_and_those_of_other_tables_stay(device):
    device.notify(None, "x", b"")
    for key in (7, 3, 7):
        numbering.raise_keys(device.db, key)
    assert device.db.all("SELECT name, seq FROM sqlite_sequence ORDER BY name") == [("notices", 1), ("outbox", 7)]
