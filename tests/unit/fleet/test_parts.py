import hashlib
import ssl
import threading
from functools import partial

import numpy as np
import pytest

from fedagg_edge.autoencoder.artefact import load
from fedagg_edge.errors import ConfigError, StorageError
from fedagg_edge.export.codec import export_codec
from fedagg_edge.fleet import parts
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.fleet.notify import more_time
from fedagg_edge.identity.facts import Facts, Issuer, IssuerKind
from fedagg_edge.learners.base import LearnerSpec
from fedagg_edge.learners.torch import make_learner
from fedagg_edge.ledger.database import Database
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.seeds import derive

EDGE = {
    "federation": "toy",
    "labels": "first-edge",
    "node": {"id": "edge-0", "state": "state", "model": "small", "seed": 5},
    "models": {"small": {"builder": "mlp", "options": {"hidden": [4]}}},
    "parent": {"url": "https://127.0.0.1:1"},
    "outbox": {"megabytes": 2.0, "days": 1.0},
    "limits": {"staged": 300 << 20},
}


@pytest.fixture
def config(tmp_path):
    return parse_fleet_config(EDGE, Tier.EDGE, base_dir=tmp_path)


def test_a_ledger_has_the_configured_bounds_and_is_one_nodes(config):
    ledger = parts.open_ledger(config, Tier.EDGE)
    assert ledger.options.hold_labels
    assert (ledger.options.outbox.size, ledger.options.outbox.age) == (2_000_000, 86_400.0)
    assert ledger.options.staged == 300 << 20  # the ledger's own bound is not below what children are told
    ledger.close()
    with pytest.raises(StorageError, match="is the ledger of"):
        parts.open_ledger(config, Tier.DEVICE)


def test_an_outbox_may_have_no_bound(tmp_path):
    config = parse_fleet_config(
        {**EDGE, "outbox": {"megabytes": float("inf"), "days": float("inf")}}, Tier.EDGE, base_dir=tmp_path
    )
    parts.open_ledger(config, Tier.EDGE).close()


def test_a_learner_begins_where_the_simulators_begins(config):
    mine = parts.make_learner(config, (1, 8, 8), 10).state().weights
    seed = derive(5, "init", "edge-0")
    theirs = make_learner(LearnerSpec(config.model(), (1, 8, 8), 10, config.training, seed))
    np.testing.assert_array_equal(mine, theirs.state().weights)


def test_a_learner_whose_package_is_missing_says_what_to_install(config, monkeypatch):
    """An application's `predict`, too: it raised ModuleNotFoundError."""

    def lacks(*words):
        raise ModuleNotFoundError(name="torch")

    monkeypatch.setattr(parts, "learner_factory", lacks)
    with pytest.raises(ConfigError, match=r"torch is not installed; run: pip install 'fedagg-edge\[torch\]'"):
        parts.make_learner(config, (1, 8, 8), 10)


def test_the_bridge_of_the_shelf_uses_the_nodes_codec(tmp_path, artefact_path):
    content = artefact_path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    shelf = tmp_path / "state" / "artefacts"
    shelf.mkdir(parents=True)
    (shelf / digest).write_bytes(content)
    export_codec(load(artefact_path), tmp_path / "codec.tflite")
    raw = EDGE | {"node": EDGE["node"] | {"codec": "codec.tflite"}}
    by_codec = parts.open_federations_bridge(parse_fleet_config(raw, Tier.EDGE, base_dir=tmp_path), digest)
    by_torch = parts.open_federations_bridge(parse_fleet_config(EDGE, Tier.EDGE, base_dir=tmp_path), digest)
    code_NB = by_torch.encode(np.full((3, *by_torch.sample_shape), 0.5, np.float32))
    np.testing.assert_allclose(by_codec.decode(code_NB), by_torch.decode(code_NB), atol=1e-5)
    assert type(by_codec._codec).__name__ == "TfliteCodec"


@pytest.mark.parametrize(("role", "fine"), [(Tier.DEVICE, False), (Tier.EDGE, True), (Tier.CLOUD, True)])
def test_a_devices_certificate_is_no_parents(monkeypatch, role, fine):
    facts = Facts(NodeId("n"), role, "toy", "1", 0.0, 1.0, Issuer(IssuerKind.ROOT, NodeId("toy"), "2"))
    monkeypatch.setattr(parts.tls, "peer_of", lambda connection: facts)
    if fine:
        parts.check_parent(None)
        return
    with pytest.raises(ssl.SSLError, match="no parent"):
        parts.check_parent(None)


def test_the_log_says_who_speaks(config, capsys):
    parts.make_log(config, Tier.EDGE).info("hello_there", count=3)
    assert "hello_there node=edge-0 role=edge count=3" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_log_has_the_configured_level_and_those_above(tmp_path, capsys, level):
    levels = ["debug", "info", "warning", "error"]
    log = parts.make_log(parse_fleet_config({**EDGE, "log": {"level": level}}, Tier.EDGE, base_dir=tmp_path), Tier.EDGE)
    for name in levels:
        getattr(log, name)(f"said_{name}")
    said = capsys.readouterr().err
    assert [name for name in levels if f"said_{name}" in said] == levels[levels.index(level) :]


def test_a_check_after_a_crash_asks_the_service_manager_for_more_time(config, tmp_path, monkeypatch):
    """A ledger of many gigabytes takes longer to read than a unit may take to start."""
    ledger = parts.open_ledger(config, Tier.EDGE)
    saved = {
        p.name: p.read_bytes() for p in config.state.glob("ledger.sqlite*")
    }  # its WAL is not empty: as after a kill
    ledger.close()
    for name, content in saved.items():
        (config.state / name).write_bytes(content)
    told = []
    heard = threading.Event()

    def tell(*lines):
        told.extend(lines)
        heard.set()
        return True

    def long_one(db):
        while not heard.is_set():
            check(db)

    check = Database.check
    monkeypatch.setattr(Database, "check", long_one)
    monkeypatch.setattr(parts, "more_time", partial(more_time, every=0.05, tell=tell))
    parts.open_ledger(config, Tier.EDGE).close()
    assert told[:2] == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000"]
