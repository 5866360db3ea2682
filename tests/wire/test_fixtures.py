"""The released bytes of each message are what this version writes and reads."""

import hashlib
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from make_fixtures import (
    ARRAY_FOLDER,
    EXAMPLES,
    FOLDER,
    FORMER,
    ORDER,
    REVOKED,
    SAMPLES,
    SERVER_FOLDER,
    SET,
    arrays,
    receipt,
    servers,
)

from fedagg_edge.fleet.forgetting import Order
from fedagg_edge.fleet.receipts import MOST_BYTES, Stamped
from fedagg_edge.identity import revocation
from fedagg_edge.wire import messages as m
from fedagg_edge.wire import tensors
from fedagg_edge.wire.limits import Limits


def named(message):
    return type(message).__name__.lower()


@pytest.mark.parametrize("message", EXAMPLES, ids=named)
def test_bytes_are_as_released(message):
    body = (FOLDER / f"{named(message)}.msgpack").read_bytes()
    assert m.encode(message) == body
    assert m.decode(type(message), body, Limits()) == message


def test_each_message_has_bytes_and_nothing_else_has():
    kinds = {n.lower() for n in m.__all__ if n[0].isupper() and isinstance(kind := getattr(m, n), type)
             and issubclass(kind, m.Message) and kind is not m.Message}  # fmt: skip
    assert {path.stem for path in FOLDER.iterdir()} == kinds


def test_arrays_are_as_released():
    assert {path.stem: path.read_bytes() for path in ARRAY_FOLDER.iterdir()} == arrays()


def test_what_servers_write_is_as_released():
    assert {path.name: path.read_bytes() for path in SERVER_FOLDER.iterdir()} == servers()


def released(name):
    return (SERVER_FOLDER / name).read_bytes()


def test_what_servers_write_is_read():
    assert m.decode(m.Adopt, released("adopt-former.msgpack"), Limits()) == FORMER
    assert msgspec.msgpack.decode(released("forget.msgpack"), type=Order) == ORDER
    assert msgspec.msgpack.decode(released("receipt.msgpack"), type=Stamped) == receipt(2)
    assert revocation.decode(released("revoked.json")) == REVOKED
    assert revocation.decode(released("revoked-none.json")) == revocation.Revocations()
    release = tensors.load_release((ARRAY_FOLDER / "release.bin").read_bytes(), Limits())
    assert (release.mover, release.fence, release.samples.digest) == ("d1", 2, SAMPLES.digest)


def test_a_receipt_of_many_links_has_one_digest_over_the_lines_of_the_others():
    body = released("receipt-of-many-links.msgpack")
    assert len(body) <= MOST_BYTES < len(msgspec.msgpack.encode(receipt(60)))
    digests = receipt(60).receipt.digests
    lines = "".join(f"{child} {digests[child]}\n" for child in sorted(digests) if child != "edge-a")
    found = msgspec.msgpack.decode(body, type=Stamped).receipt.digests
    assert found == {"edge-a": SET.hex(), "60 links": hashlib.sha256(lines.encode()).hexdigest()}


def test_what_is_signed_of_an_artefact_is_eight_lines():
    """As docs/identity.md says."""
    lines = ["fedagg/artefact/1", "f", "autoencoder", "application/x-safetensors", "1000", "7", "1500000000", SET.hex()]
    assert (ARRAY_FOLDER / "artefact.bin").read_bytes().decode("ascii") == "".join(f"{line}\n" for line in lines)


def test_an_adopt_without_a_former_parent_leaves_the_field_out():
    """For software that is older than the field."""
    without = m.encode(m.Adopt("edge-a", ("edge-a", "d1"), 2))
    assert released("adopt-former.msgpack") == bytes([without[0] + 1]) + without[1:] + b"\xa6edge-b"
