"""Fetching the trained model: part by part, resumable, believed only once the cloud's signature holds.

Beside the file that it writes lies ``<name>.pin.json``: the federation's root, the version and the digest of the last
one. A version below that, or the same version with other content, is refused: an old model is not passed off as new.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from fedagg_edge.errors import ArtefactError, ConfigError
from fedagg_edge.failpoints import reach
from fedagg_edge.files import sync_folder, write_atomic
from fedagg_edge.fleet.signatures import verify
from fedagg_edge.fleet.visitor import Visitor
from fedagg_edge.identity import folder, pem, requests
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Artefact, Offered, decode

__all__ = ["Pin", "Pulled", "pull"]

_PIECE = 1 << 20


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was fetched last. `authority` and `digest` are SHA-256 in hexadecimal, `made` Unix seconds."""

    schema: int = 1
    authority: str
    name: str
    version: int
    digest: str
    made: float


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """What `pull` did. `fetched`: bytes that came over the network; 0 if the newest version was here already."""

    pin: Pin
    size: int
    fetched: int
    signer: str


def pull(
    url: str,
    identity: Path,
    out: Path,
    *,
    name: str = "model",
    most: int = 16 << 30,
    progress: Callable[[int, int], None] = lambda done, of: None,
    visitor: Callable[[str, Path], Visitor] = Visitor,
) -> Pulled:
    """Fetch artefact `name` from the server at `url` into `out`, which is replaced whole or stays as it was.

    Run again after an interruption it goes on where it was. Raises IdentityError for a wrong signature, ArtefactError
    for a wrong digest or version, PermissionDenied if it is not the cloud's or the server refuses, RemoteProtocolError
    for no answer, ConfigError, OSError.
    """
    if out.is_dir():  # told before the download, which could not be put in its place
        raise ConfigError(f"{out}: got a folder, expected the name of a file; take --out {out}/{name}.safetensors")
    pin_path = out.with_name(out.name + ".pin.json")
    with visitor(url, identity) as server, _owned(out.with_name(out.name + ".part")) as part:
        offered = decode(Offered, server.get("/v1/artefacts").body, _listing())
        artefact = _wanted(offered, name, url, most)
        known, told = _read_pin(pin_path), verify(identity, artefact, time.time())
        pin = _advance(known, _pin(identity, artefact, told), out)
        if known == pin and _digest(out) == pin.digest:
            part.truncate(0)  # of one that was killed at its very end
            return Pulled(pin=pin, size=artefact.size, fetched=0, signer=told.signer)
        fetched = _fetch(server, artefact, offered.chunk, part, progress)
        _finish(part, artefact, out, lambda: write_atomic(pin_path, msgspec.json.encode(pin)))
    return Pulled(pin=pin, size=artefact.size, fetched=fetched, signer=told.signer)


def _listing() -> Limits:
    """What a list of artefacts may have: signatures hold certificates."""
    return Limits(message=1 << 19, inline=0)


def _wanted(offered: Offered, name: str, url: str, most: int) -> Artefact:
    found = next((a for a in offered.artefacts if a.name == name), None)
    if found is None:
        names = ", ".join(sorted(a.name for a in offered.artefacts)) or "nothing"
        raise ArtefactError(f"{url}: has no {name!r} (it has {names}); the cloud has it once it was published")
    if not 0 < found.size <= most:
        raise ArtefactError(f"{url}: {name!r} has {found.size} bytes, expected 1 to {most}")
    return found


def _pin(identity: Path, artefact: Artefact, told: requests.Verified) -> Pin:
    root = pem.fingerprint(pem.certificates(folder.read(identity / folder.AUTHORITY))[0])
    return Pin(
        authority=root.hex(), name=artefact.name, version=told.version, digest=artefact.digest.hex(), made=told.made
    )


def _read_pin(path: Path) -> Pin | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pin)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArtefactError(f"{path}: damaged; it says which version was seen last, remove it to trust anew") from None


def _advance(known: Pin | None, new: Pin, out: Path) -> Pin:
    """The pin to keep. Raises ArtefactError if what is offered is older than, or other than, what was seen."""
    if known is None:
        return new
    if (known.authority, known.name) != (new.authority, new.name):
        raise ArtefactError(
            f"{out}: holds {known.name!r} of the federation with root {known.authority[:12]}, got {new.name!r} of "
            f"{new.authority[:12]}; take another --out"
        )
    if new.version < known.version:
        raise ArtefactError(
            f"{new.name!r}: got version {new.version}, version {known.version} was seen here; an older one is refused"
        )
    if new.version == known.version and new.digest != known.digest:
        raise ArtefactError(f"{new.name!r}: version {new.version} came with two contents; ask the cloud's operator")
    # the same model signed again after a renewal: what was seen first stands
    return known if new.version == known.version else new


@contextmanager
def _owned(path: Path) -> Iterator[BinaryIO]:
    """The file that is being fetched into, for one process at a time; it stays for the next attempt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{path}: another pull is at work on it; wait for that one") from None
        try:
            yield part
        finally:
            if os.fstat(descriptor).st_size == 0:
                path.unlink(missing_ok=True)


def _fetch(
    server: Visitor, artefact: Artefact, chunk: int, part: BinaryIO, progress: Callable[[int, int], None]
) -> int:
    """Bring `part` to the artefact's size; the bytes that were fetched. Its first 32 bytes name the content."""
    part.seek(0)
    if part.read(32) != artefact.digest:
        part.truncate(0)
        part.seek(0)
        part.write(artefact.digest)
        part.flush()
        reach("pull.fetch.after-name")
    done = (max(0, part.seek(0, os.SEEK_END) - 32)) // chunk * chunk
    fetched = 0
    while done < artefact.size:
        data = server.get(f"/v1/artefacts/{artefact.digest.hex()}/{done // chunk}").body
        wanted = min(chunk, artefact.size - done)
        if len(data) != wanted:
            raise ArtefactError(f"{artefact.name!r}: part {done // chunk} has {len(data)} bytes, expected {wanted}")
        part.seek(32 + done)
        part.write(data)
        part.flush()  # a kill costs this part at most
        reach("pull.fetch.after-part")
        done, fetched = done + wanted, fetched + wanted
        progress(done, artefact.size)
    part.truncate(32 + artefact.size)
    part.flush()
    return fetched


def _finish(part: BinaryIO, artefact: Artefact, out: Path, pin: Callable[[], None]) -> None:
    """Check the whole and move it into place, once `pin` has noted it: whoever is killed in between must not take an
    older one for new afterwards, and finds the whole again in `part`."""
    beside = out.with_name(out.name + ".new")
    digest = hashlib.sha256()
    part.seek(32)
    try:
        with beside.open("wb") as f:
            while piece := part.read(_PIECE):
                digest.update(piece)
                f.write(piece)
            if digest.digest() != artefact.digest:
                part.truncate(0)
                raise ArtefactError(f"{artefact.name!r}: what came is not what was signed; pull again")
            f.flush()
            reach("pull.finish.after-copy")
            os.fsync(f.fileno())
        reach("pull.finish.after-sync")
        pin()
        reach("pull.finish.after-pin")
        beside.replace(out)
        reach("pull.finish.after-rename")
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(out.parent)
    part.truncate(0)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError:
        return None
