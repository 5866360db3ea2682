"""The files that a federation pins, on disk: the autoencoder, the trained model; each with the cloud's signature.

One writer (the node), many readers (the gateway): a file is there before the index names it, and stays for those who
have begun to fetch it.
"""

from __future__ import annotations

import errno
import hashlib
import re
from pathlib import Path

import msgspec

from fedagg_edge.errors import ArtefactError, StorageFull
from fedagg_edge.failpoints import reach
from fedagg_edge.files import write_atomic
from fedagg_edge.wire.messages import Artefact

__all__ = ["AUTOENCODER", "MODEL", "DiskShelf", "Pinned"]

AUTOENCODER, MODEL = "autoencoder", "model"
_INDEX = "index.msgpack"
_CONTENT = re.compile(r"[0-9a-f]{64}(\.tmp)?")


class Pinned:
    """A shelf as children see it in Welcome: what they must have. The rest is there for those who ask for the list."""

    def __init__(self, shelf: DiskShelf) -> None:
        self._shelf = shelf

    def listing(self) -> tuple[Artefact, ...]:
        """The autoencoder."""
        return tuple(a for a in self._shelf.listing() if a.name == AUTOENCODER)

    def read(self, digest: bytes, start: int, size: int) -> bytes | None:
        """As the shelf's."""
        return self._shelf.read(digest, start, size)


class DiskShelf:
    """Artefacts below `folder`; `wire.state.Shelf` for a parent's end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, content: bytes, signature: bytes, media: str) -> Artefact:
        """Keep an artefact in place of one of the same name, whose content stays until the next.

        Raises StorageFull if there is no room for it, other OSErrors as they are.
        """
        artefact = Artefact(name, hashlib.sha256(content).digest(), len(content), signature, media)
        before = self.listing()
        kept = [a for a in before if a.name != name]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not any(a.digest == artefact.digest for a in before):
                write_atomic(self._path(artefact.digest), content)
            reach("shelf.put.after-content")
            write_atomic(self._folder / _INDEX, msgspec.msgpack.encode([*kept, artefact]))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            text = (
                f"{self._folder}: no room for {name!r}, {len(content)} bytes; free space on its disk, it is tried again"
            )
            raise StorageFull(text) from error
        reach("shelf.put.after-index")
        self._sweep({a.digest.hex() for a in (*before, artefact)})
        return artefact

    def _sweep(self, wanted: set[str]) -> None:
        """Remove contents that neither this index nor the one before it names, and what killed writers left of some."""
        for path in self._folder.iterdir():
            if _CONTENT.fullmatch(path.name) and path.name not in wanted:
                path.unlink(missing_ok=True)
                reach("shelf.sweep.after-file")

    def listing(self) -> tuple[Artefact, ...]:
        """The artefacts there are. Raises ArtefactError for a damaged index."""
        try:
            return msgspec.msgpack.decode((self._folder / _INDEX).read_bytes(), type=tuple[Artefact, ...])
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise ArtefactError(f"{self._folder / _INDEX}: damaged: {e}; remove it, it is fetched again") from None

    def find(self, name: str) -> Artefact | None:
        """The artefact of this name."""
        return next((a for a in self.listing() if a.name == name), None)

    def content(self, artefact: Artefact) -> bytes:
        """All its bytes. Raises ArtefactError if they are not what its digest names."""
        try:
            content = self._path(artefact.digest).read_bytes()
        except OSError as e:
            raise ArtefactError(f"artefact {artefact.name!r}: {e.strerror or e}") from None
        if hashlib.sha256(content).digest() != artefact.digest:
            raise ArtefactError(f"artefact {artefact.name!r}: damaged on disk; remove it, it is fetched again")
        return content

    def read(self, digest: bytes, start: int, size: int) -> bytes | None:
        """Part of an artefact, also of one that was just replaced; None if there is none of this digest."""
        try:
            with self._path(digest).open("rb") as f:
                f.seek(start)
                return f.read(size) or None
        except OSError:
            return None

    def _path(self, digest: bytes) -> Path:
        return self._folder / digest.hex()
