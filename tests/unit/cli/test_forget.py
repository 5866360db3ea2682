import json

import pytest
from identity.worlds import make_world
from toys import embeddings

from fedagg_edge.fleet import forgetting
from fedagg_edge.identity import operator, revocation
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.log import Kind
from fedagg_edge.ledger.moves import Adoption
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.tensors import dump_embeddings

CLOUD = """
federation = "fed"
classes = 3
[node]
id = "cloud.1"
state = "cloud"
model = "mlp"
[autoencoder]
path = "autoencoder.safetensors"
"""


@pytest.fixture
def config(tmp_path):
    made = make_world(tmp_path / "made")
    (tmp_path / "cloud").mkdir()
    made.cloud.rename(tmp_path / "cloud" / "identity")
    path = tmp_path / "cloud.toml"
    path.write_text(CLOUD)
    return path


@pytest.fixture
def ledger(config):
    path = config.parent / "cloud" / "ledger.sqlite"
    made = Ledger.open(path, node=NodeId("cloud.1"), federation="fed", options=Options(tier=Tier.CLOUD))
    yield made
    made.close()


def test_a_receipt_says_what_went_and_who_has_not_answered(config, ledger, fedagg):
    edge = NodeId("edge.1")
    ledger.enrol(edge, Tier.EDGE, "1")
    ledger.append(edge, Kind.APPEND, dump_embeddings(embeddings("d1", 5)), key=1, by="child")
    code, out, err = fedagg("forget", "d1", "--config", config, "--revoke", "--wait", "0")
    assert (code, err) == (0, "")
    assert "5 rows of d1 forgotten at cloud.1" in out
    assert "edge.1: has not answered yet" in out
    (path,) = (config.parent / "cloud" / "receipts").iterdir()
    told = json.loads(path.read_text())
    assert (told["origin"], told["revoked"], told["waiting_for"]) == ("d1", True, ["edge.1"])
    assert [(r["node"], r["rows"], r["scrubbed"]) for r in told["receipts"]] == [("cloud.1", 5, True)]
    assert "d1" in revocation.load(config.parent / "cloud" / "identity").nodes
    assert len(ledger.samples(edge)) == 0
    assert [n.kind for n in ledger.notices(edge, 0)] == ["forget"]


def test_a_name_that_nobody_knows_is_refused_and_not_revoked(config, ledger, fedagg):
    """It was carried out, with a receipt of 0 rows, while the board that was meant stayed."""
    ledger.append(NodeId("edge.1"), Kind.APPEND, dump_embeddings(embeddings("device-17", 5)), key=1, by="child")
    for words in ((), ("--revoke",)):
        code, out, err = fedagg("forget", "device-71", "--config", config, *words)
        assert (code, out) == (1, "")
        assert "got 'device-71' (did you mean 'device-17'?), which nothing at cloud.1 has ever named" in err
    assert "fedagg pki revoke" in err
    assert not revocation.load(config.parent / "cloud" / "identity").nodes
    assert not (config.parent / "cloud" / "receipts").exists()
    assert len(ledger.samples(NodeId("edge.1"))) == 5


@pytest.mark.parametrize("how", ["revoked", "granted", "enrolled", "left", "moved", "forgotten before"])
def test_a_name_that_anything_here_has_had_is_known(config, ledger, fedagg, how):
    node, identity = NodeId("d9"), config.parent / "cloud" / "identity"
    match how:
        case "revoked":  # so that whose samples have not come up yet can be forgotten where they are
            revocation.update(identity, lambda known: revocation.revoke(known, 1.0, node=node))
        case "granted":
            operator.grant(identity, node=node, role=Tier.DEVICE, expires=2e9)
        case "enrolled" | "left":
            ledger.enrol(node, Tier.DEVICE, "1")
            if how == "left":
                ledger.leave(node)
        case "moved":
            ledger.adopt(Adoption(node=node, child=NodeId("edge.1"), origins=(node,), fence=1, more=True))
        case _:
            forgetting.give(ledger, node, sleep=lambda s: None)
    code, out, _ = fedagg("forget", node, "--config", config, "--wait", "0")
    assert (code, "0 rows of d9 forgotten" in out) == (0, True)


def test_without_revoke_it_is_said_that_more_may_come(config, ledger, fedagg, tmp_path):
    ledger.enrol(NodeId("d1"), Tier.DEVICE, "1")
    code, out, _ = fedagg("forget", "d1", "--config", config, "--receipt", tmp_path / "r" / "x.json")
    assert (code, "what it sends from now on is kept" in out) == (0, True)
    assert json.loads((tmp_path / "r" / "x.json").read_text())["revoked"] is False
    assert not revocation.load(config.parent / "cloud" / "identity").nodes


def test_where_it_is_not_to_be_run(config, fedagg, tmp_path):
    code, _, err = fedagg("forget", "d1", "--config", config)
    assert (code, "no ledger here" in err) == (1, True)
    edge = tmp_path / "edge.toml"
    edge.write_text('federation = "f"\n[parent]\nurl = "https://x"\n')
    code, _, err = fedagg("forget", "d1", "--config", edge)
    assert (code, "expected the cloud's file, on its host" in err) == (1, True)
    assert fedagg("forget", "No Node", "--config", config)[0] == 1
