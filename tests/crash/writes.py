"""What the crash tests kill beside the ledger: every write of several steps that a node makes to files of its own.

Run as ``python writes.py FOLDER BUDGET NAME`` it kills one of SCENARIOS at each named place. A scenario does its work
with the package's own functions, and goes on wherever a killed run stopped, as a process that is started again does.
What signs and checks certificates runs here in the same process: so a place inside it is a place of this one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
from matrix import matrix

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from identity.worlds import make_states, make_world
from toys import IdentityBridge

from fedagg_edge import checkpoint
from fedagg_edge.cli import enroll
from fedagg_edge.fleet import agent, journal, member, parts, pull, weights
from fedagg_edge.fleet.clocks import Clocks
from fedagg_edge.fleet.config import load_fleet_config
from fedagg_edge.fleet.keys import PUBLISHED
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.publish import Publisher
from fedagg_edge.fleet.renewal import Renewer, by_own_issuer
from fedagg_edge.fleet.round_metrics import round_metrics
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.identity import folder, issue, offload, operator, pem, process, requests, revocation, tls
from fedagg_edge.identity.renewal import DAY
from fedagg_edge.learners.base import Entry, LearnerState
from fedagg_edge.ledger import private
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.http import Response
from fedagg_edge.wire.messages import Offered, encode

ROUNDS = 5
TABLE = (Entry("w", (2, 3), True), Entry("b", (2,), False))
QUIET = Log(io.StringIO())


def answered(request, wanted, **_):
    """In place of the short-lived process."""
    return offload._read(0, requests.encode(process.answer(request)), wanted)


offload.ask = answered


def files(place, *skip):
    return sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file() and p.name not in skip)


# a node's rounds: weights, the row of each in metrics.jsonl, the figures for /metrics


def rounds(place):
    saved, problems = weights.load_newest(place / "weights")
    assert problems == []
    if saved is not None:
        assert saved.state.weights.tolist() == [saved.version] * 8
        journal.append(place / "metrics.jsonl", saved.row)
    for version in range(0 if saved is None else saved.version + 1, ROUNDS):
        state = LearnerState(TABLE, np.full(8, version, np.float32))
        row = {"version": version, "loss": 1 / (version + 1)}
        weights.save(place / "weights", weights.Saved(version, state, row=row))
        journal.append(place / "metrics.jsonl", row)
        round_metrics(row, present=1, waiting=0, offline=None).save(place / "metrics.prom")


def look_at_rounds(place, at):
    """What others read while the node is down is whole. A kill in the middle of a write leaves part of it: a row."""
    checkpoints = checkpoint.list_rounds(place / "weights")
    assert weights.load_newest(place / "weights")[1] == []
    if (place / "metrics.prom").exists():
        assert "fedagg_round " in (place / "metrics.prom").read_text()
    if at == "journal.append.after-cut":
        with (place / "metrics.jsonl").open("ab") as f:
            f.write(json.dumps({"version": checkpoints[-1], "loss": 1}).encode()[:-4])


def state_of_rounds(place):
    saved, problems = weights.load_newest(place / "weights")
    save(place, ROUNDS)  # the next one puts in order what a kill at the very end left
    rows = [json.loads(line)["version"] for line in (place / "metrics.jsonl").read_text().splitlines()]
    found = files(place, "metrics.prom.tmp")  # which the next look at the figures writes over
    return {"version": saved.version, "problems": problems, "rows": rows, "files": found}


def jumping(place):
    """A node whose parent went on without it: no start takes up the round that a kill cut off."""
    start = count_starts(place)
    for _ in range(3):
        newest = weights.newest_version(place / "weights")
        if newest is None or newest < 100:
            save(place, (-1 if newest is None else newest) + 1 + start)
    for last in (100, 101):
        if checkpoint.list_rounds(place / "weights")[-1] < last:
            save(place, last)


def save(place, version):
    weights.save(place / "weights", weights.Saved(version, LearnerState(TABLE, np.full(8, version, np.float32))))


def count_starts(place):
    """How many there were before."""
    starts = place / "starts"
    before = len(starts.read_text()) if starts.exists() else 0
    starts.write_text("x" * (before + 1))
    return before


def state_after_jumps(place):
    save(place, 102)  # the next one puts in order what a kill at the very end left
    return {"files": files(place, "starts")}


# the artefacts of a federation on a node's shelf


CONTENTS = [("autoencoder", b"a" * 300), ("model", b"m1" * 200), ("model", b"m2" * 200), ("model", b"m3" * 200)]


def shelve(place):
    shelf = DiskShelf(place / "artefacts")
    done = int((place / "done").read_text()) if (place / "done").exists() else 0
    for number in range(done, len(CONTENTS)):
        name, content = CONTENTS[number]
        shelf.put(name, content, b"signature", "m")
        (place / "done").write_text(str(number + 1))
    shelf.put("model", CONTENTS[-1][1], b"signed again", "m")


def look_at_shelf(place, at):
    shelf = DiskShelf(place / "artefacts")
    for artefact in shelf.listing():
        shelf.content(artefact)


def state_of_shelf(place):
    shelf = DiskShelf(place / "artefacts")
    here = {a.name: hashlib.sha256(shelf.content(a)).hexdigest() for a in shelf.listing()}
    return {"artefacts": here, "files": files(place)}


def upgrade(place):
    """A federation that replaces its autoencoder again and again, and never comes back to one that a kill cut off."""
    shelf, start = DiskShelf(place / "artefacts"), count_starts(place)
    for number in range(3):
        shelf.put("autoencoder", b"%d/%d" % (start, number), b"s", "m")
    shelf.put("autoencoder", b"last but one", b"s", "m")
    shelf.put("autoencoder", b"last", b"s", "m")


# identities


def make_federation(place):
    make_states(place, make_world(place / "made"))
    with contextlib.suppress(OSError):
        (place / "made").rmdir()


def make_due(place):
    """A cloud whose certificate is due, with what it signed under it; and a device that is to enrol."""
    now = time.time()
    made = make_world(place / "made", now=now - 6 * DAY)
    make_states(place, made)
    publisher = Publisher(place / "cloud", clock=lambda: now - DAY)
    for name in ("autoencoder", "model"):
        publisher.put(name, name.encode() * 50, version=1)


def renew(place):
    """As a cloud at its start, and then when its certificate is due."""
    identity, publisher = place / "cloud" / "identity", Publisher(place / "cloud")
    publisher.sign_again()
    renewer = Renewer(identity, by_own_issuer(identity, 7 * DAY), publisher.sign_again, QUIET, rng=Random(0))
    renewer.look()


def look_at_identity(place, at):
    """Key and certificate fit, whatever happened: a gateway would come up."""
    tls.server_context(place / "cloud" / "identity")
    publisher = Publisher(place / "cloud")
    for artefact in publisher.shelf.listing():
        publisher.shelf.content(artefact)


def state_of_identity(place):
    identity, shelf = place / "cloud" / "identity", DiskShelf(place / "cloud" / "artefacts")
    tls.server_context(identity)
    certificate = folder.read(identity / folder.CERTIFICATE)
    until = pem.validity(pem.certificates(certificate)[0]).not_after
    return {
        "renewed": until - time.time() > 6.9 * DAY,
        "signed": {a.name: certificate in a.signature for a in shelf.listing()},
        "files": files(place),
    }


def renew_device(place):
    """A device's, with its parent's part: an answer that was lost is bought again."""
    identity, parent = place / "device" / "identity", place / "edge" / "identity"

    def buy(prepared):
        asked = requests.Renew(
            folder=str(parent), certificate=prepared.certificate, public_key=prepared.public_key, proof=prepared.proof,
            time=prepared.time, now=time.time(),
        )  # fmt: skip
        return answered(asked, requests.Issued).certificate

    Renewer(identity, buy, lambda: None, QUIET, rng=Random(0)).look()


def look_at_device(place, at):
    tls.client_context(place / "device" / "identity")


def state_of_device(place):
    identity = place / "device" / "identity"
    tls.client_context(identity)
    until = pem.validity(pem.certificates(folder.read(identity / folder.CERTIFICATE))[0]).not_after
    return {"renewed": until - time.time() > 6.9 * DAY, "files": files(place)}


def give_token(place):
    make_federation(place)
    token = operator.grant(place / "edge" / "identity", node="n", role=Tier.DEVICE, expires=time.time() + 3600)
    (place / "token").write_text(token.text)
    (place / "device.toml").write_text(
        'federation = "fed"\n[node]\nid = "n"\nstate = "n"\nmodel = "mlp"\n'
        '[parent]\nurl = "https://127.0.0.1:9"\ntoken_file = "token"\n[data]\nsource = "folder"\n'
        '[data.options]\npath = "."\n'
    )


def enrol(place):
    """What a device does at its start, `fedagg enroll` and its parent in this process."""
    parent = place / "edge" / "identity"
    root = folder.read(parent / folder.AUTHORITY)

    def post(where, context, token, asked):
        wanted = requests.Enrol(
            folder=str(parent), node=asked.node, role=asked.role, token_digest=enroll.tokens.digest(token),
            public_key=asked.public_key, proof=asked.proof, time=asked.time, now=time.time(),
        )  # fmt: skip
        return issue.enrol(wanted).certificate

    def command(words, text, *_):
        known = argparse.ArgumentParser()
        known.add_argument("--state", type=Path)
        state = known.parse_known_args(words)[0].state
        token = enroll.tokens.parse(text)
        enroll.enrol(enroll.Address("127.0.0.1", 9), token, state / "identity", node="n", role=Tier.DEVICE, send=post)
        return argparse.Namespace(returncode=0, stdout="", stderr="")

    tls.first_contact = lambda *_, **__: tls.Contact(None, root)
    member._ask = command
    member.enrol_if_needed(load_fleet_config(place / "device.toml", Tier.DEVICE), Tier.DEVICE)


def state_of_enrolled(place):
    identity = place / "n" / "identity"
    tls.client_context(identity)
    return {"files": files(place)}


def administer(place):
    """What an operator keeps in a server's folder: tokens, and the list of the revoked, each in one go."""
    identity = place / "edge" / "identity"
    for node in ("a", "b"):
        operator.grant(identity, node=node, role=Tier.DEVICE, expires=time.time() + 60)
        revocation.update(identity, lambda known, node=node: revocation.revoke(known, 1.0, node=node))
    for path in (identity / folder.TOKENS).glob("*.json"):
        assert b'"digest"' in path.read_bytes()


def look_at_lists(place, at):
    revocation.load(place / "edge" / "identity")


def state_of_lists(place):
    identity = place / "edge" / "identity"
    leftover = [name for name in files(place) if name.endswith(".tmp") and folder.TOKENS not in name]
    return {"revoked": sorted(revocation.load(identity).nodes), "leftover": leftover}


# a device's private samples: taken in, and let go for good

SECRET = np.linspace(0.11, 0.93, 4, dtype=np.float32).tobytes()  # of the samples that are let go, each


def keep_samples(place):
    (place / "private").mkdir()
    for number in range(4):
        x_N = (
            np.frombuffer(2 * SECRET, np.float32).reshape(2, 1, 2, 2)
            if number == 0
            else np.full((2, 1, 2, 2), number / 4)
        )
        np.savez(place / "private" / f"{number}.npz", x=x_N.astype(np.float32), y=np.array([0, 1]))
    (place / "device.toml").write_text(
        'federation = "fed"\npoll = 0.001\n[node]\nid = "n"\nstate = "n"\nmodel = "mlp"\n'
        '[parent]\nurl = "https://127.0.0.1:9"\n[data]\nsource = "folder"\n'
        '[data.options]\npath = "private"\n[retention]\nsamples = 6\n'
    )


def take_in(place):
    """A device that keeps six samples is given eight; at the end none of its files has the others any more."""
    config = load_fleet_config(place / "device.toml", Tier.DEVICE)
    ledger = parts.open_ledger(config, Tier.DEVICE)
    ledger.put("terms", {"classes": 3})
    agent.Intake(config, ledger, QUIET, Clocks()).look(IdentityBridge())
    there = [path.name for path in config.state.glob("ledger.sqlite*") if SECRET in path.read_bytes()]
    assert there == []
    ledger.close()


def state_of_samples(place):
    ledger = parts.open_ledger(load_fleet_config(place / "device.toml", Tier.DEVICE), Tier.DEVICE)
    kept = private.load(ledger.db, (1, 2, 2))
    waiting = [(b.kind, b.rows) for b in ledger.pending()]
    ledger.close()
    return {"counters": kept.counter_N.tolist(), "sum": float(kept.x_N.sum()), "waiting": waiting}


# the model, from the cloud's shelf to whoever pulls it


def publish(place):
    """As a cloud's node loop: a model every round unless the fact says that it is out."""
    publisher, ledger = Publisher(place / "cloud"), cloud_ledger(place / "cloud")
    for version in range(3):
        if (ledger.get(PUBLISHED) or {}).get("version", -1) < version:
            publisher.put_model(ledger, b"model %d " % version * 40, version)
    publisher.put_model(ledger, b"model 2 " * 40, 2)
    ledger.close()


def cloud_ledger(state):
    options = Options(tier=Tier.CLOUD)
    return Ledger.open(state / "ledger.sqlite", node=NodeId("cloud.1"), federation="fed", options=options)


def look_at_model(place, at):
    """Whoever comes now gets a whole model with a signature that holds."""
    publisher = Publisher(place / "cloud")
    for artefact in publisher.shelf.listing():
        publisher.shelf.content(artefact)
        pull.verify(place / "cloud" / "identity", artefact, time.time())


def state_of_model(place):
    ledger = cloud_ledger(place / "cloud")
    fact = ledger.get(PUBLISHED)
    ledger.close()
    made = DiskShelf(place / "cloud" / "artefacts").find("model")
    told = pull.verify(place / "cloud" / "identity", made, time.time())
    return {
        "version": [fact["version"], told.version],
        "same": fact["digest"] == made.digest.hex(),
        "files": files(place / "cloud" / "artefacts"),
    }


class Server:
    """The cloud's shelf as a visitor sees it, in parts of 256 bytes; `fetched` are those that were asked for."""

    def __init__(self, place):
        self.shelf, self.place = DiskShelf(place / "cloud" / "artefacts"), place

    def __call__(self, url, identity):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def get(self, path):
        if path == "/v1/artefacts":
            return Response(200, encode(Offered(256, self.shelf.listing())))
        digest, number = path.rsplit("/", 2)[1:]
        with (self.place / "fetched").open("a") as f:
            f.write("x")
        return Response(200, self.shelf.read(bytes.fromhex(digest), int(number) * 256, 256))


def make_models(place):
    make_federation(place)
    publisher = Publisher(place / "cloud")
    publisher.put("model", b"first " * 200, version=1)


def fetch(place):
    """Twice, with a newer model in between."""
    publisher, server = Publisher(place / "cloud"), Server(place)
    take = lambda: pull.pull("https://x", place / "device" / "identity", place / "out" / "model", visitor=server)  # noqa: E731
    if not (place / "second").exists():
        assert take().pin.version == 1
        (place / "second").touch()
    publisher.put("model", b"second " * 200, version=2)
    take()


def look_at_fetched(place, at):
    """The file is one of the two, whole, and not newer than what the pin refuses to go back from."""
    out, pin = place / "out" / "model", place / "out" / "model.pin.json"
    content = out.read_bytes() if out.exists() else b""
    assert content in (b"", b"first " * 200, b"second " * 200)
    version = json.loads(pin.read_text())["version"] if pin.exists() else 0
    assert version >= {b"": 0, b"first " * 200: 1, b"second " * 200: 2}[content], (at, version, content[:6])


def state_of_fetched(place):
    pin = json.loads((place / "out" / "model.pin.json").read_text())
    return {
        "content": (place / "out" / "model").read_bytes().decode(),
        "version": pin["version"],
        "files": files(place / "out"),
    }


def audit_fetched(place):
    """At most one part is fetched once more, however a pull was killed."""
    due = sum(-(-len(word * 200) // 256) for word in (b"first ", b"second "))
    assert len((place / "fetched").read_text()) <= due + 1, due


SCENARIOS = {
    "rounds": {"run": rounds, "state": state_of_rounds, "look": look_at_rounds},
    "jumps": {"run": jumping, "state": state_after_jumps, "look": look_at_rounds},
    "shelf": {"run": shelve, "state": state_of_shelf, "look": look_at_shelf},
    "upgrades": {"run": upgrade, "state": lambda place: {"files": files(place / "artefacts")}, "look": look_at_shelf},
    "renewal": {
        "prepare": make_due, "run": renew, "state": state_of_identity, "look": look_at_identity,
    },
    "device's renewal": {
        "prepare": make_due, "run": renew_device, "state": state_of_device, "look": look_at_device,
    },
    "enrolment": {"prepare": give_token, "run": enrol, "state": state_of_enrolled},
    "administration": {
        "prepare": make_federation, "run": administer, "state": state_of_lists, "look": look_at_lists,
    },
    "samples": {"prepare": keep_samples, "run": take_in, "state": state_of_samples},
    "publication": {
        "prepare": make_federation, "run": publish, "state": state_of_model, "look": look_at_model,
    },
    "pull": {
        "prepare": make_models, "run": fetch, "state": state_of_fetched, "look": look_at_fetched,
        "audit": audit_fetched,
    },
}  # fmt: skip


if __name__ == "__main__":
    found = matrix(Path(sys.argv[1]), int(sys.argv[2]), **SCENARIOS[sys.argv[3]])
    sys.stdout.write(json.dumps(found))
