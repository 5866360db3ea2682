"""Fuzzes everything that reads bytes of the other end: messages, arrays, chunks, both ends of a link, and of HTTP.

    python tests/wire/fuzz_wire.py --seconds 60 [--corpus FOLDER]     with atheris (coverage-guided)
    python tests/wire/fuzz_wire.py --tries 20000                      without it: seeds with bytes changed at random

The first byte picks the target. What cannot be read must be refused with RemoteProtocolError, whatever it is; what can
be read must come out the same when it is written and read again; an end answers every request and takes every answer.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import struct
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_http
import numpy as np
from make_fixtures import EXAMPLES

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Embeddings, LogitsFormat, NodeId, SampleSet, Tier
from fedagg_edge.wire import chunks, messages, tensors
from fedagg_edge.wire.child import ChildEnd, Idle
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.parent import Later, ParentEnd
from fedagg_edge.wire.state import EMPTY_DIGEST, Peer
from fedagg_edge.wire.terms import Terms
from fedagg_edge.wire.transfer import ArtefactDownload, Download

KINDS = [type(example) for example in EXAMPLES]
LIMITS = Limits()
SMALL = Limits(message=16_384, inline=256, chunk=256, entry_bytes=61_440, staged=61_440)
CHILD, PARENT = NodeId("d1"), NodeId("edge-a")
PATHS = ("hello", "append", "exchange", "missing", "leave", "status", "chunks/" + "ab" * 32, "entries/1/0", "enrol")

Target = Callable[[bytes], None]


def message(kind: Any) -> Target:
    def target(data: bytes) -> None:
        found = messages.decode(kind, data, LIMITS)
        assert messages.decode(kind, messages.encode(found), LIMITS) == found

    return target


def embeddings(data: bytes) -> None:
    found = tensors.load_embeddings(data, SMALL)
    again = tensors.load_embeddings(tensors.dump_embeddings(found), SMALL)
    assert again.samples.digest == found.samples.digest
    assert np.array_equal(again.code_NB, found.code_NB)
    assert np.array_equal(again.label_N, found.label_N)


def samples(data: bytes) -> None:
    found = tensors.load_samples(data, SMALL)
    assert tensors.dump_samples(found) == data


def logits(data: bytes) -> None:
    form, rows, classes = struct.unpack_from("<BIi", data) if len(data) >= 9 else (0, 0, 0)
    name = (*LogitsFormat, "f64")[form % 4]
    found = tensors.load_logits(data[9:], name, rows, classes)
    assert tensors.dump_logits(found) == data[9:]
    assert found.value_NC.shape == (rows, classes)


def assembly(data: bytes) -> None:
    """A payload that a neighbour told, and pieces that are not what it told."""
    size = data[0] + 1 if data else 1
    pieces = chunks.split(data[1:], size)
    whole = b"".join(pieces)
    payload = messages.Payload(len(whole), chunks.digest_of(whole), b"", tuple(map(chunks.digest_of, pieces)))
    assert chunks.assemble(payload, pieces) == whole
    if len(pieces) > 1 and pieces[0] != pieces[-1]:
        for wrong in (pieces[::-1], pieces[:-1], [*pieces, pieces[0]]):
            with contextlib.suppress(RemoteProtocolError):
                chunks.assemble(payload, wrong)
                raise AssertionError("took pieces that are not the payload's")


def download(data: bytes) -> None:
    """Whatever payload or artefact is told, and whatever comes for it, is refused or is what was told."""
    length = int.from_bytes(data[:2], "little")
    payload, data = messages.decode(messages.Payload, data[2 : 2 + length], SMALL), data[2 + length :]
    entry = messages.Entry(1, 1, -1, 1, bytes(32), payload)
    artefact = messages.Artefact("a", payload.digest, payload.size, b"", "m")
    for one in (
        Download("/v1/entries/1", payload, entry, SMALL, SMALL.entry_bytes),
        ArtefactDownload(artefact, 256, 1 << 20),
    ):
        for piece in chunks.split(data, 256) or [b""]:
            if one.add(piece):
                assert chunks.digest_of(one.whole()) == payload.digest
                break


class Ends:
    """Both ends of a link on ledgers; each input is undone, so that one does not depend on another."""

    def __init__(self, folder: Path) -> None:
        self.below = Ledger.open(folder / "d", node=CHILD, federation="f", options=Options(tier=Tier.DEVICE))
        above = Ledger.open(folder / "e", node=PARENT, federation="f", options=Options(tier=Tier.CLOUD))
        above.enrol(CHILD, Tier.DEVICE, "01")
        rows = Embeddings(SampleSet.of(CHILD, np.arange(3, dtype=np.uint64)), np.zeros((3, 4), np.uint8), np.arange(3))
        above.append(CHILD, 1, tensors.dump_embeddings(rows), key=1, by="child")
        self.above, self.end = above, ParentEnd(Terms("f", PARENT, 10, LIMITS, "x"))

    def close(self) -> None:
        self.below.close()
        self.above.close()

    def request(self, data: bytes) -> None:
        """Any method, path and body: answered, never raised."""
        if len(data) < 2:
            return
        path = PATHS[data[0] % len(PATHS)] if data[0] < 200 else data[2:40].decode("latin-1")
        asked = Request(("POST", "GET", "PUT")[data[1] % 3], f"/v1/{path}", data[2:])
        with undone(self.above):
            answer = self.end.handle(ParentView(self.above), Peer(CHILD, Tier.DEVICE, "01"), asked, 1e9)
            assert isinstance(answer, Response | Later)
            if (
                isinstance(answer, Response)
                and answer.status >= 400
                and asked.method == "POST"
                and answer.status != 409
            ):
                messages.decode(messages.Problem, answer.body, LIMITS)

    def answer(self, data: bytes) -> None:
        """Any status and body, in any step of the child: taken, never raised, and it goes on."""
        if len(data) < 2:
            return
        child = ChildEnd(ChildView(self.below), CHILD, Tier.DEVICE, "f", "x", random.Random(0))
        status = (200, 204, 302, 400, 403, 404, 409, 413, 422, 426, 429, 503)[data[1] % 12]
        now = 0.0
        with undone(self.below):
            for body in (WELCOME, WELCOME)[: data[0] % 3]:
                asked = child.next(now)
                if isinstance(asked, Request):
                    child.receive(asked, Response(200, body), now)
            asked = child.next(now)
            if isinstance(asked, Request):
                child.receive(asked, Response(status, data[2:]), now)
            for _ in range(4):
                step = child.next(now)
                now = step.until if isinstance(step, Idle) else now + 1
                if isinstance(step, Request):
                    return
            raise AssertionError("the child asks nothing any more")


WELCOME = messages.encode(
    messages.Welcome(1, "x", PARENT, "f", 10, 1.0, 0, 0, bytes.fromhex(EMPTY_DIGEST), -1, "sync", 9, False, LIMITS, ())
)


class _Undo(Exception):
    pass


@contextlib.contextmanager
def undone(ledger: Ledger) -> Iterator[None]:
    with contextlib.suppress(_Undo), ledger.transaction():
        yield
        raise _Undo


def targets(ends: Ends) -> list[Target]:
    fixed = [embeddings, samples, logits, assembly, download, ends.request, ends.answer]
    fixed += [fuzz_http.server, fuzz_http.client]
    return [*(message(kind) for kind in KINDS), *fixed]


def seeds() -> list[bytes]:
    """The released bytes of every message, and what goes with them, for each target."""
    bodies = [messages.encode(example) for example in EXAMPLES]
    found = [bytes([i]) + body for i, body in enumerate(bodies)]
    rows = Embeddings(
        SampleSet((NodeId("a"), NodeId("b")), (np.arange(3, dtype=np.uint64), np.array([7], np.uint64))),
        np.arange(16, dtype=np.uint8).reshape(4, 4),
        np.array([0, 300, -1, 2]),
    )
    held = Embeddings(rows.samples, rows.code_NB, np.full(4, -1))
    at = len(KINDS)
    found += [bytes([at]) + tensors.dump_embeddings(r) for r in (rows, held)]
    found.append(bytes([at + 1]) + tensors.dump_samples(rows.samples))
    for form, width in enumerate((4, 2, 1)):
        extra = 8 if width == 1 else 0
        found.append(bytes([at + 2]) + struct.pack("<BIi", form, 2, 3) + bytes(range(6 * width + extra)))
    found.append(bytes([at + 3, 3]) + bytes(range(40)))
    payload = chunks.payload_of(bytes(600), SMALL)
    told = messages.encode(payload)
    found.append(bytes([at + 4]) + len(told).to_bytes(2, "little") + told + bytes(600))
    found += [bytes([at + 5, path, method]) + body for path, body in enumerate(bodies) for method in range(3)]
    found += [bytes([at + 6, step, 0]) + body for body in bodies for step in range(3)]
    found += [bytes([at + 7 + i]) + data for i, ends in enumerate(fuzz_http.SEEDS) for data in ends]
    return found


def check(all_targets: list[Target], data: bytes) -> None:
    """Run one input; what is refused as it should be is well."""
    if not data:
        return
    with contextlib.suppress(RemoteProtocolError):
        all_targets[data[0] % len(all_targets)](data[1:])


def mutated(rng: random.Random, known: list[bytes]) -> bytes:
    """A seed with some bytes changed, cut out, doubled or joined with another's."""
    data = bytearray(rng.choice(known))
    for _ in range(1 + int(4 * rng.random() ** 2)):
        at = rng.randrange(1, len(data) + 1)
        what = rng.randrange(6)
        if what == 0 and at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif what == 1:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif what == 2:
            del data[at : at + rng.randrange(1, 9)]
        elif what == 3:
            data[at:] = rng.choice(known)[at:]
        elif what == 4:
            data[at:at] = data[at : at + rng.randrange(1, 33)]
        elif at < len(data):
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def fuzz_blindly(tries: int, seed: int, folder: Path) -> int:
    """`tries` changed seeds, always the same ones; how many targets were reached."""
    ends, rng, known = Ends(folder), random.Random(seed), seeds()
    every = targets(ends)
    try:
        for data in known:
            check(every, data)
        for _ in range(tries):
            check(every, mutated(rng, known))
    finally:
        ends.close()
    return len({data[0] % len(every) for data in known})


def functions() -> Iterator[types.FunctionType]:
    """All functions of wire/ and of HTTP, so that their branches are counted: atheris' own hook counts none here."""
    for name, module in sorted(sys.modules.items()):
        if not name.startswith(("fedagg_edge.wire.", "fedagg_edge.fleet.http")):
            continue
        for thing in vars(module).values():
            members = vars(thing).values() if isinstance(thing, type) else (thing,)
            for member in members:
                function = getattr(member, "fget", member)
                if isinstance(function, types.FunctionType) and function.__module__ == name:
                    yield function


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--tries", type=int, default=20_000)
    parser.add_argument("--corpus", type=Path, help="where inputs that reach new code are kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if not args.seconds:
            fuzz_blindly(args.tries, 0, Path(made))
            return
        corpus = args.corpus or Path(made) / "found"
        given = Path(made) / "seeds"
        for folder in (corpus, given):
            folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds()):
            (given / f"{number:03d}").write_bytes(seed)
        import atheris

        every = targets(Ends(Path(made)))
        for function in functions():
            atheris.instrument_func(function)
        flags = [f"-max_total_time={args.seconds}", "-max_len=4096", "-rss_limit_mb=1024", "-print_final_stats=1"]
        flags.append(f"-artifact_prefix={corpus.parent}/")
        atheris.Setup([sys.argv[0], *flags, str(corpus), str(given)], lambda data: check(every, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
