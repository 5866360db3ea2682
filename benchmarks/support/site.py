"""A gateway with many enrolled devices, for measurements: the real process, its ledger filled as a fleet's would be."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.identity import authority, folder, keys, operator
from fedagg_edge.identity.issue import certificate_chain
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import (
    Embeddings,
    Knowledge,
    Link,
    LogitsFormat,
    NodeId,
    PackedLogits,
    SampleSet,
    Tier,
    counters,
)
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.messages import PROTOCOL, Exchange, Hello, Payload, WireKnowledge, encode
from fedagg_edge.wire.tensors import dump_embeddings, dump_logits

EDGE, FEDERATION, CODE_BYTES = NodeId("edge"), "bench", 256
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Site:
    """An edge's state folder and its gateway's process. `digest[node]`: of the set that a device's knowledge names."""

    place: Path
    port: int
    admin_port: int
    rows: int
    classes: int
    format: LogitsFormat
    digest: dict[NodeId, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def credentials(self, node: NodeId) -> Path:
        """The identity folder of a device."""
        return self.place / "devices" / node

    def hello(self, node: NodeId) -> bytes:
        """The body of a hello, without which a gateway hangs up: the log's one entry is known."""
        formats = tuple(str(f) for f in LogitsFormat)
        digest = bytes.fromhex(self.digest[node])
        return encode(
            Hello(PROTOCOL, PROTOCOL, "benchmark", node, "device", FEDERATION, formats, 0, 1, digest, labels="all")
        )

    def exchange(self, node: NodeId, version: int) -> bytes:
        """The body of an exchange: knowledge of this version, and nothing known of the parent's."""
        data = dump_logits(logits(version, self.rows, self.classes, self.format))
        digest = bytes.fromhex(self.digest[node])
        given = WireKnowledge(
            version, 0, digest, 0, self.format.value, self.rows, self.classes, Payload(len(data), digest_of(data), data)
        )
        return encode(Exchange(-1, 1, 0, 0.0, 0, given))

    def start(self, core: int | None) -> None:
        """Start the gateway, on one core if given, and wait until it answers."""
        command = [sys.executable, "-m", "fedagg_edge.fleet.run", "gateway", "edge", str(self.place / "edge.toml")]
        # aloud only if it fails: the log of 1,000 devices is no figure
        log = (self.place / "log.txt").open("wb")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=1).close()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the gateway did not start: {(self.place / 'log.txt').read_text()}")

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)

    def cpu(self) -> float:
        """User and system seconds of the gateway so far."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(text[11]) + int(text[12])) / TICKS

    def resident(self) -> int:
        """Bytes of memory that the gateway holds."""
        assert self.process is not None
        return resident(self.process.pid)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by name and labels as they stand there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def resident(pid: int) -> int:
    """Bytes of memory that a process holds (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def logits(version: int, rows: int, classes: int, form: LogitsFormat) -> PackedLogits:
    """Something to send, different for each version."""
    rng = np.random.default_rng(version)
    if form is LogitsFormat.INT8:
        value_NC = rng.integers(-127, 128, (rows, classes), np.int8)
        return PackedLogits(form, value_NC, rng.random(rows, np.float32))
    return PackedLogits(form, rng.standard_normal((rows, classes)).astype(np.float32), None)


def make_site(
    place: Path, *, devices: int, ports: tuple[int, int], rows: int, classes: int, form: LogitsFormat
) -> Site:
    """Lay out an edge below `place` with `devices` devices, each with `rows` embeddings and the edge's knowledge."""
    site = Site(place, *ports, rows, classes, form)
    now = time.time()
    operator.found(place / "authority", FEDERATION, now)
    state = place / "state"
    operator.make_server(
        place / "authority",
        state / "identity",
        node=EDGE,
        role=Tier.EDGE,
        hosts=["127.0.0.1"],
        now=now,
        lifetime=86_400,
    )
    (place / "edge.toml").write_text(
        f'federation = "{FEDERATION}"\n'
        '[node]\nid = "edge"\nstate = "state"\nmodel = "mlp"\n'
        f'[listen]\nhost = "127.0.0.1"\nport = {ports[0]}\nadmin_port = {ports[1]}\n'
        '[parent]\nurl = "https://127.0.0.1:1"\n'
    )
    DiskShelf(state / "artefacts").put("autoencoder", b"not read here", b"", "application/octet-stream")
    signer = authority.load_signer(state / "identity")
    root = folder.read(place / "authority" / folder.AUTHORITY)
    ledger = Ledger.open(state / "ledger.sqlite", node=EDGE, federation=FEDERATION, options=Options(tier=Tier.EDGE))
    rng = np.random.default_rng(0)
    with ledger.transaction():
        ledger.put("terms", {"parent": "cloud", "classes": classes, "mode": "async", "target": 0})
        for i in range(devices):
            node = NodeId(f"device-{i}")
            serial = _device(site.credentials(node), node, signer, root, now)
            ledger.enrol(node, Tier.DEVICE, serial)
            samples = SampleSet.of(node, counters(0, rows))
            code_NB = rng.integers(0, 256, (rows, CODE_BYTES), np.uint8)
            batch = dump_embeddings(Embeddings(samples, code_NB, rng.integers(0, classes, rows)))
            site.digest[node] = ledger.append(node, Kind.APPEND, batch, key=0, by="child").digest
            own = Knowledge(FEDERATION, Link(node, EDGE), EDGE, 0, site.digest[node], 0, logits(i, rows, classes, form))
            ledger.put_knowledge(own, -1)
    ledger.close()
    return site


def _device(place: Path, node: NodeId, signer: authority.Signer, root: bytes, now: float) -> str:
    """A device's identity folder; the serial of its certificate."""
    place.mkdir(parents=True)
    key = keys.make_key(place / folder.KEY)
    leaf = authority.certify(signer, node=node, role=Tier.DEVICE, public_key=key.public_key(), now=now)
    folder.write(place / folder.CERTIFICATE, certificate_chain(signer, authority.to_pem(leaf), Tier.DEVICE, root))
    folder.write(place / folder.AUTHORITY, root)
    return f"{leaf.serial_number:x}"
