"""What a device has to itself stays there: labels that are for the first edge alone, and samples, embeddings, logits,
tokens and keys, which no log, metric, file of figures or error message ever shows."""

import base64
import http.client
import itertools
import json
import urllib.request
from pathlib import Path

import msgspec
import numpy as np
import pytest
from harness import experiment, is_over, lay_out, ledger_of, settled, state, wait_for

from fedagg_edge.fleet import up
from fedagg_edge.identity import tls
from fedagg_edge.records import Link, NodeId, Tier
from fedagg_edge.wire.tensors import OWN, load_embeddings


def test_labels_for_the_first_edge_never_reach_the_cloud(tmp_path):
    """One device keeps its labels from the cloud, the other does not; all train on."""
    config = experiment(rounds=3, devices=2)
    fleet = lay_out(
        config,
        tmp_path / "fleet",
        change=lambda node, table: table.update(labels="first-edge") if node.place.id == "device-000" else None,
    )
    rows = []
    up.run_fleet(fleet, rows.append, seconds=300)
    assert [row["version"] for row in rows] == [0, 1, 2]
    assert all(row["loss"] is not None and row["refused"] == 0 for row in rows)
    found = state(fleet)
    assert min(found["edge-0"]["links"]["device-000"]["labels"]) >= 0  # the first edge has them, and trains with them
    at_cloud = labels_by_origin(fleet)
    assert set(at_cloud["device-000"]) == {-1}
    assert min(at_cloud["device-001"]) >= 0
    assert sorted(at_cloud["device-001"]) == sorted(found["device-001"]["links"]["device-001"]["labels"])
    for payload in every_payload(fleet, fleet.cloud):  # nor did they pass through and leave again
        assert labels_in(payload, "device-000") <= {-1}
    devices = [n for n in fleet.nodes if n.place.tier is Tier.DEVICE]
    assert all(up.read_metrics(fleet, n)[-1]["loss"] is not None for n in devices)


def labels_by_origin(fleet):
    ledger = ledger_of(fleet, fleet.cloud)
    rows = ledger.embeddings(NodeId("edge-0"))
    ledger.close()
    return by_origin(rows)


def by_origin(rows):
    counts = np.cumsum([0, *map(len, rows.samples.counters)])
    spans = zip(rows.samples.origins, itertools.pairwise(counts), strict=True)
    return {str(origin): rows.label_N[start:end].tolist() for origin, (start, end) in spans}


def every_payload(fleet, node):
    ledger = ledger_of(fleet, node)
    found = [row[0] for row in ledger.db.all("SELECT bytes FROM payloads")]
    ledger.close()
    assert found
    return found


def labels_in(payload, origin):
    return set(by_origin(load_embeddings(payload, OWN)).get(origin, ()))


# what no output may show


def forms(data: bytes):
    """A secret of some bytes, as it might be written."""
    yield data
    yield data.hex().encode()
    yield data.hex().upper().encode()
    yield repr(data)[2:-1].encode()
    for shift in range(3):  # base64 depends on where the secret begins in what was encoded
        whole = base64.b64encode(b"\0" * shift + data)[4 if shift else 0 : -4]
        yield whole[:24]
        yield whole.replace(b"+", b"-").replace(b"/", b"_")[:24]


def numbers(value_N):
    """Numbers of many digits, as they might be printed, one by one, and bytes of four in a row."""
    for value in np.asarray(value_N, np.float32).ravel():
        yield from (form.encode() for form in (repr(float(value)), str(value)) if len(form) >= 9)
    yield from forms(np.asarray(value_N, "<f4").ravel()[:6].tobytes())


def sequence(value_N):
    """Small integers: only many in a row say anything."""
    first = [int(v) for v in np.asarray(value_N).ravel()[:12]]
    yield ", ".join(map(str, first)).encode()
    yield ",".join(map(str, first)).encode()
    yield " ".join(map(str, first)).encode()
    for dtype in ("<i8", "u1"):
        yield from forms(np.array(first).astype(dtype).tobytes())


def secrets(fleet):
    """(what it is, how it might look) of everything that is nobody else's business."""
    for node in fleet.nodes:
        home = fleet.home(node)
        name = str(node.place.id)
        key = (home / "state" / "identity" / "key.pem").read_text().splitlines()
        for line in key[1:-1]:
            yield f"{name}: key", line[:32].encode()
        if node.private is not None:
            x_N, y_N = node.private
            for x in x_N[::6]:
                yield from ((f"{name}: sample", form) for form in numbers(x.ravel()[:8]))
            yield from ((f"{name}: labels", form) for form in sequence(y_N))
            token = (home / "token").read_text().strip()
            yield from ((f"{name}: token", form) for form in (token.encode(), token.split(".")[-1].encode()))
            yield from ((f"{name}: token", form) for form in forms(token.encode()))
        ledger = ledger_of(fleet, node)
        for child, parent, publisher in ledger.db.all("SELECT DISTINCT child, parent, publisher FROM knowledge"):
            newest = ledger.newest(Link(NodeId(child), NodeId(parent)), NodeId(publisher))
            for row in newest.knowledge.logits.value_NC[:8]:
                yield from ((f"{name}: logits", form) for form in numbers(row))
        for (child,) in ledger.db.all("SELECT child FROM links WHERE head > 0"):
            for code in ledger.embeddings(NodeId(child)).code_NB[:8]:
                yield from ((f"{name}: embedding", form) for form in sequence(code))
                yield from ((f"{name}: embedding", form) for form in forms(code.tobytes()[:24]))
        ledger.close()


def shown(fleet):
    """{where: bytes} of all that the processes wrote for people."""
    paths = [p for pattern in ("*/*.txt", "*/state/metrics.jsonl") for p in fleet.folder.glob(pattern)]
    return {str(p.relative_to(fleet.folder)): p.read_bytes() for p in paths}


def probed(fleet, node, found):
    """What a node's gateway answers to odd requests, and its metrics and health."""
    table = json.loads((fleet.home(node) / "ports.json").read_text())
    for path in ("metrics", "healthz", "readyz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{table['admin']}/{path}", timeout=30) as answer:
            found[f"{node.place.id}: /{path}"] = answer.read()
    context = tls.client_context(fleet.folder / "device-000" / "state" / "identity")
    connection = http.client.HTTPSConnection("127.0.0.1", table["port"], context=context, timeout=30)
    device = next(n for n in fleet.nodes if n.place.id == "device-000")
    planted = device.private[0].tobytes()[:400] + (fleet.home(device) / "token").read_bytes()
    requests = [
        ("POST", f"/v1/{name}", planted) for name in ("hello", "append", "exchange", "missing", "enrol", "renew")
    ]
    requests += [("PUT", f"/v1/chunks/{'ab' * 32}", planted), ("POST", "/v1/enrol", msgspec.msgpack.encode([planted]))]
    requests += [("GET", "/v1/" + planted.hex()[:64], b"")]
    statuses = []
    for number, (method, path, body) in enumerate(requests):
        connection.request(method, path, body or None)
        try:
            answer = connection.getresponse()
        except http.client.RemoteDisconnected:  # who asks for an exchange and never said hello here gets no answer
            assert path == "/v1/exchange"
            assert node.place.id != device.place.parent
            connection.close()
            continue
        statuses.append(answer.status)
        found[f"{node.place.id}: answer {number}"] = answer.read() if "/v1/" + planted.hex()[:64] != path else b""
    connection.close()
    return statuses


@pytest.mark.parametrize("form", ["text", "json"])
def test_planted_values_are_nowhere_to_be_read(tmp_path, form):
    config = experiment(
        rounds=3,
        data={"source": "softmax:blobs", "options": {"floats": True}},
        autoencoder={"epochs": 1, "embedding_channels": 6},  # 24 bytes, which can be searched for
    )

    def talkative(node, table):
        table["log"] = {"format": form, "level": "debug"}
        if node.place.children:
            table["listen"]["admin_port"] = free_port()
            where = fleet_folder / node.place.id / "ports.json"
            where.write_text(json.dumps({"admin": table["listen"]["admin_port"], "port": table["listen"]["port"]}))

    fleet_folder = tmp_path / "fleet"
    fleet = lay_out(config, fleet_folder, change=talkative)
    devices = [n for n in fleet.nodes if n.private is not None]
    for node in devices:  # samples that are refused, each in its own way: the errors must not quote them
        spoil(fleet.home(node) / "private", *node.private)
    found = {}
    try:
        for node in fleet.nodes:
            fleet.start(node)
        wait_for(lambda: is_over(fleet) and settled(fleet, config.rounds), fleet, "the rounds")
        for node in fleet.nodes:
            if node.place.children:
                assert set(probed(fleet, node, found)) <= {400, 401, 403, 404, 413, 422}
    finally:
        fleet.stop()
    found |= shown(fleet)
    logs = b"".join(v for k, v in found.items() if k.endswith("log.txt"))
    assert logs.count(b"parcel_refused") >= 3 * len(devices)  # what should have been tempted to talk did talk
    assert b"debug" in logs
    wanted = list(secrets(fleet))
    kinds = {what.partition(": ")[2] for what, _ in wanted}
    assert kinds == {"sample", "labels", "logits", "embedding", "token", "key"}
    assert all(len(form) >= 9 for _, form in wanted)  # shorter ones could be anything
    shows = [(what, where, form) for what, form in wanted for where, text in found.items() if form in text]
    assert shows == []


def test_the_search_finds_what_is_there():
    x_N = np.array([0.123456789, 3.2512345, -7.654321], np.float32)
    for text in (f"x={x_N[0]}", f"{x_N.tolist()}", f"{float(x_N[2])!r}", x_N.tobytes().hex(), repr(x_N.tobytes())):
        assert any(form in text.encode() for form in numbers(x_N)), text
    data = bytes(range(30, 60))
    for shift in range(5):
        assert any(form in base64.b64encode(b"abcde"[:shift] + data) for form in forms(data)), shift
    assert any(form in str([1, 2, 3, 0] * 4).encode() for form in sequence([1, 2, 3, 0] * 4))


def spoil(folder: Path, x_N, y_N):
    with (folder / "a.npz").open("wb") as f:
        np.savez(f, x=x_N, y=y_N + 100)
    with (folder / "b.npz").open("wb") as f:
        np.savez(f, x=x_N[:, :, :3], y=y_N)
    with (folder / "c.npz").open("wb") as f:
        np.savez(f, x=x_N, y=y_N.astype(np.float32) + np.float32(0.1234567))
    (folder / "d.npz").write_bytes(x_N.tobytes())


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
