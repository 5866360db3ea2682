import json
import sys
from pathlib import Path

import pytest
from identity.worlds import make_world

sys.path.insert(0, str(Path(__file__).parents[2] / "fleet"))
from serving import server_config, serving
from toys import embeddings

from fedagg_edge.cli.status import render
from fedagg_edge.fleet.keys import ASIDE, PARCELS, PROGRESS, TERMS
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.terms import LEAVING


@pytest.fixture
def cloud(tmp_path):
    made = make_world(tmp_path / "made")
    (tmp_path / "cloud").mkdir()
    made.cloud.rename(tmp_path / "cloud" / "identity")
    with serving(server_config(tmp_path / "cloud", Tier.CLOUD, "cloud.1"), Tier.CLOUD) as running:

        def fill(view):
            view.put(TERMS, {"parent": None, "classes": 3, "mode": "sync", "target": 9})
            view.put(PROGRESS, {"version": 4, "rows": 5, "loss": 0.5, "accuracy": 0.75, "at": 1e9})
            view.ledger.enrol(NodeId("edge.1"), Tier.EDGE, "1")

        running.ask(fill)
        yield running


def test_a_server_is_shown_to_its_operator(cloud, fedagg):
    code, out, err = fedagg("status", cloud.url, "--identity", cloud.config.state / "identity")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "node cloud.1 (cloud of federation fed)" in lines
    assert "state training, sync, target 9" in lines
    assert "accuracy 75.0 %" in lines
    assert "children 0 of 1 present" in lines
    assert "edge.1 edge no no 0 - never" in lines


def test_for_programs(cloud, fedagg):
    code, out, _ = fedagg("status", cloud.url, "--identity", cloud.config.state / "identity", "--json")
    told = json.loads(out)
    assert (code, told["verified"], told["round"], told["children"][0]["node"]) == (0, True, 4, "edge.1")


def test_without_an_identity_there_is_health_and_a_hint(cloud, fedagg):
    code, out, _ = fedagg("status", cloud.url)
    assert (code, out.splitlines()[0].split()) == (0, ["ready", "no"])  # it has no autoencoder
    assert "take --identity DIR" in out
    assert "cloud.1" not in out


def test_a_state_folder_on_this_machine_says_what_its_node_noted(fedagg, tmp_path):
    """A device has no server to ask."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path, node=NodeId("d1"), federation="fed", options=Options(tier=Tier.DEVICE))
    ledger.put(TERMS, {"parent": "edge.1", "classes": 3, "mode": "sync", "target": 9})
    ledger.put(ASIDE, {"batches": 2, "rows": 2, "bytes": 5000, "limit": 4096})
    ledger.put(PARCELS, {"now": 1, "total": 3})
    ledger.send(embeddings("d1", 4))
    code, out, err = fedagg("status", tmp_path)  # while the node has it open
    ledger.close()
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "node d1 (device of federation fed)" in lines
    assert "parent edge.1" in lines
    assert "waiting 1 batches for the parent" in lines
    assert any(line.startswith("set aside 2 rows that the parent does not take: up to 5000 bytes") for line in lines)
    assert "private data 1 parcels refused at the last look, 3 so far" in lines
    code, out, _ = fedagg("status", tmp_path, "--json")
    assert (code, json.loads(out)["parcels_refused"]) == (0, {"now": 1, "total": 3})
    code, _, err = fedagg("status", tmp_path.parent)
    assert (code != 0, "no node's state is here" in err) == (True, True)


def test_an_edge_that_is_drained_says_so(cloud, fedagg):
    cloud.ask(lambda view: view.put(LEAVING, True))
    _, out, _ = fedagg("status", cloud.url, "--identity", cloud.config.state / "identity")
    assert "state draining" in [" ".join(line.split()) for line in out.splitlines()]


def test_nobody_there(fedagg, tmp_path):
    code, _, err = fedagg("status", "https://127.0.0.1:1")
    assert (code, "https://127.0.0.1:1: no answer" in err) == (1, True)


@pytest.mark.parametrize("what", ["no/such/folder", "fed.example:9443"])
def test_what_is_neither_an_address_nor_a_folder_is_told_with_both(fedagg, what):
    code, _, err = fedagg("status", what)
    assert code == 1
    assert f"got '{what}', expected https://host:port, or a state folder that is there" in err


def test_ages_models_and_receipts():
    told = {
        "verified": True, "node": "c", "role": "cloud", "federation": "f", "software": "s", "protocol": 1,
        "mode": "async", "target": 0, "round": 3, "round_at": 0.0, "rows": 1, "loss": None, "finished": False,
        "model": {"version": 2, "size": 3 << 20, "digest": "ab" * 32}, "certificate_until": 0.0,
        "children": [{"node": "e", "role": "edge", "present": True, "connected": True, "samples": 7, "round": 2,
                      "heard": 7300.0}],
        "receipts": [{"origin": "d", "node": "c", "rows": 3, "at": 7100.0, "scrubbed": True, "via": "c"},
                     {"via": "e", "unreadable": 4}],
    }  # fmt: skip
    text = render(told, 7310.0)
    for wanted in ("3, 2 h ago, 1 rows", "version 2, 3.0 MiB, sha256 abababababab", "10 s ago", "d at c: 3 rows, 4 min",
                   "gone from its files",
                   "e: a receipt that this version cannot read", "until 1970-01-01 00:00"):  # fmt: skip
        assert wanted in text
    assert "draining" in render(told | {"draining": True}, 0.0)
    assert "finished" in render(told | {"finished": True}, 0.0)
    assert "waits for its parent" in render(told | {"mode": None, "round": -1}, 0.0)
