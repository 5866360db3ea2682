"""Simulated devices at one real gateway; `make soak` has two thousand of them."""

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
import soak as tool
from soak import GROWTH, growth, soak


def test_all_are_served_and_memory_stays():
    rows = soak(40, 12)
    assert [row["version"] for row in rows] == list(range(12))
    assert all(row["connections"] == 40 for row in rows)
    assert growth(rows) <= GROWTH


@pytest.mark.slow
def test_two_thousand_are_served_and_memory_stays():
    rows = soak(2000, 24)
    assert all(row["connections"] == 2000 for row in rows)
    assert growth(rows) <= GROWTH


def test_growth_is_seen():
    assert growth([{"rss": 100 + 10 * max(0, i - 4)} for i in range(24)]) > 1.5


@pytest.mark.parametrize(("each_round", "code"), [(0, 0), (1, 1)])
def test_memory_that_grows_fails_the_command(monkeypatch, capsys, each_round, code):
    rows = [
        {"version": i, "rss": 100 + i * each_round, "connections": 2, "ledger": 1, "seconds": 1.0, "failures": 0}
        for i in range(24)
    ]
    monkeypatch.setattr(tool, "soak", lambda count, rounds, told: rows)
    assert tool.main(["--clients", "2", "--rounds", "24", "--json"]) == code
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[0]["holds"] is (code == 0)


def test_clients_that_are_never_let_in_are_not_waited_for_for_ever(monkeypatch, tmp_path):
    async def run(self, over):
        self.failures += 1
        await over.wait()

    gateway = SimpleNamespace(stdout=SimpleNamespace(readline=lambda: '{"port": 1}\n'))
    monkeypatch.setattr(tool, "PATIENCE", 0.3)
    monkeypatch.setattr(tool.Client, "run", run)
    monkeypatch.setattr(tool.Authority, "of", lambda made: None)
    with pytest.raises(AssertionError, match=r"0 of 3 clients let in after 0.3 s, 3 failures"):
        asyncio.run(tool._drive(tmp_path, gateway, 3, 1, lambda row: None))


def test_a_gateway_that_says_nothing_is_not_waited_for_for_ever(monkeypatch, tmp_path):
    killed = threading.Event()

    def readline():
        killed.wait()
        return ""

    monkeypatch.setattr(tool, "PATIENCE", 0.1)
    gateway = SimpleNamespace(stdout=SimpleNamespace(readline=readline), kill=killed.set)
    with pytest.raises(AssertionError, match=r"said nothing for 0.1 s"):
        asyncio.run(tool._drive(tmp_path, gateway, 3, 1, lambda row: None))
