"""Whether the cloud has signed an artefact: asked of a short-lived process, as that needs `cryptography`."""

from __future__ import annotations

from pathlib import Path

from fedagg_edge.identity import offload, requests
from fedagg_edge.wire.messages import Artefact

__all__ = ["verify"]


def verify(identity: Path, artefact: Artefact, now: float | None) -> requests.Verified:
    """What the signer said. `identity`: the folder whose authority is trusted. `now`: Unix time, None to take the
    signature at any age, as a cloud does with its own.

    Raises IdentityError or PermissionDenied unless the cloud of that federation signed just this artefact.
    """
    asked = requests.Check(
        folder=str(identity),
        name=artefact.name,
        media=artefact.media,
        size=artefact.size,
        digest=artefact.digest,
        signature=artefact.signature,
        now=now,
    )
    return offload.ask(asked, requests.Verified)
