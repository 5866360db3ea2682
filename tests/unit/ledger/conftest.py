"""Ledgers of each tier in a temporary folder."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier


@pytest.fixture
def make(tmp_path):
    opened = []

    def open_(name="cloud", tier=Tier.CLOUD, **changes):
        options = Options(tier=tier, clock=lambda: 1000.0, **changes)
        ledger = Ledger.open(tmp_path / f"{name}.ledger", node=NodeId(name), federation="f", options=options)
        opened.append(ledger)
        return ledger

    yield open_
    for ledger in opened:
        ledger.close()


@pytest.fixture
def cloud(make):
    return make()


@pytest.fixture
def edge(make):
    return make("edge-a", Tier.EDGE)


@pytest.fixture
def device(make):
    return make("d1", Tier.DEVICE)
