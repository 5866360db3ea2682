"""What the cloud signs and puts on its shelf: the autoencoder that everybody pins, and the model that it trains.

The model is a safetensors file of its named arrays, torch's names and layout; its header says, as text, what is needed
to build it: see `model_content`. Its version is the round that it was trained in, so it only ever grows.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save as to_safetensors

from fedagg_edge.bridge import Bridge
from fedagg_edge.failpoints import reach
from fedagg_edge.fleet.config import FleetConfig
from fedagg_edge.fleet.keys import PUBLISHED
from fedagg_edge.fleet.shelf import MODEL, DiskShelf
from fedagg_edge.fleet.signatures import verify
from fedagg_edge.identity import folder, offload, requests
from fedagg_edge.learners.base import LearnerState
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.wire.messages import Artefact

__all__ = ["FORMAT", "MEDIA", "Publisher", "model_content"]

MEDIA = "application/x-safetensors"
FORMAT = "fedagg-model/1"


def model_content(config: FleetConfig, state: LearnerState, bridge: Bridge, classes: int, version: int) -> bytes:
    """The model as safetensors; the same state always makes the same bytes, hence the same digest.

    Its metadata's one key, ``fedagg``, is JSON: `format`, `federation`, `node`, `version`, `classes`, `sample_shape`,
    `model` as in a configuration's ``[models]``, `autoencoder`: the digest of the artefact that brings raw samples to
    the model's scale.
    """
    about = {
        "format": FORMAT,
        "federation": config.federation,
        "node": config.node.id,
        "version": version,
        "classes": classes,
        "sample_shape": bridge.sample_shape,
        "model": config.model(),
        "autoencoder": bridge.digest,
    }
    tensors = {name: np.ascontiguousarray(array) for name, array in sorted(state.arrays().items())}
    return to_safetensors(tensors, metadata={"fedagg": msgspec.json.encode(about, order="sorted").decode()})


class Publisher:
    """The shelf's one writer in a cloud's training process; safe to use from several threads.

    Signing runs in a short-lived process. Raises IdentityError or PermissionDenied if this node cannot sign, OSError.
    """

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self._identity, self._clock, self._lock = state / "identity", clock, threading.Lock()
        self.shelf = DiskShelf(state / "artefacts")

    def put(self, name: str, content: bytes, *, version: int) -> Artefact:
        """Sign an artefact with this node's key and put it on the shelf."""
        with self._lock:
            return self.shelf.put(name, content, self._signature(name, content, version, MEDIA), MEDIA)

    def next_version(self, name: str) -> int:
        """The Unix time, or one more than that of what is on the shelf under this name if that is higher: nodes refuse
        a version lower than one seen, and a cloud whose state folder was lost, or is an older one, must not count anew.
        """
        known, now = self.shelf.find(name), max(0, int(self._clock()))
        return now if known is None else max(now, verify(self._identity, known, None).version + 1)

    def put_model(self, ledger: Ledger, content: bytes, version: int) -> Artefact:
        """The same for the model, and the fact that says so."""
        made = self.put(MODEL, content, version=version)
        reach("publish.put-model.after-shelf")
        fact: dict[str, Any] = {"version": version, "digest": made.digest.hex(), "size": made.size, "at": self._clock()}
        ledger.put(PUBLISHED, fact)
        return made

    def sign_again(self) -> int:
        """Give what is on the shelf a signature by the present certificate, its version as it was; how many had none.

        A signature outlives its certificate by 30 days only, and nodes that enrol later must be able to check it.
        """
        with self._lock:
            present = folder.read(self._identity / folder.CERTIFICATE)
            old = [a for a in self.shelf.listing() if present not in a.signature]  # it has its signer's chain in it
            for artefact in old:
                known = verify(self._identity, artefact, None)  # however old it was left to grow
                content = self.shelf.content(artefact)
                signature = self._signature(artefact.name, content, known.version, artefact.media)
                self.shelf.put(artefact.name, content, signature, artefact.media)
                reach("publish.sign-again.after-artefact")
            return len(old)

    def _signature(self, name: str, content: bytes, version: int, media: str) -> bytes:
        asked = requests.Sign(
            folder=str(self._identity),
            name=name,
            media=media,
            size=len(content),
            digest=hashlib.sha256(content).digest(),
            version=version,
            now=self._clock(),
        )
        return offload.ask(asked, requests.Signed).signature
