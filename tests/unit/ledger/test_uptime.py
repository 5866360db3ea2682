from contextlib import suppress

import pytest

from fedagg_edge.ledger import uptime
from fedagg_edge.ledger.database import Database


@pytest.fixture
def db(tmp_path):
    database = Database(tmp_path / "x")
    yield database
    database.close()


def test_it_goes_on_over_restarts_and_never_back(db):
    readings = [500.0, 500.0, 560.0, 3.0, 10.0, 700.0, 0.0]
    assert [uptime.count(db, at) for at in readings] == [0.0, 0.0, 60.0, 63.0, 70.0, 760.0, 760.0]


def counted_then_undone(db, reading):
    with suppress(KeyError), db.transaction():
        uptime.count(db, reading)
        raise KeyError


def test_what_was_undone_is_counted_at_the_next_look(db):
    uptime.count(db, 100.0)
    counted_then_undone(db, 150.0)
    assert uptime.count(db, 160.0) == 60.0
