"""Names of facts in the ledger that several processes of a node share; wire/terms.py has the protocol's."""

from __future__ import annotations

__all__ = [
    "ASIDE",
    "CERTIFICATE",
    "LEFT_TO",
    "PARCELS",
    "PROGRESS",
    "PUBLISHED",
    "RECEIPTS",
    "SEEN",
    "SENT",
    "TERMS",
]

TERMS = "terms"
"""What the federation agreed on: parent, classes, mode, target (the first version after the training), autoencoder; at
the cloud also base (the version of its first round since `mode` was async)."""
PROGRESS = "progress"
"""The last round of the node loop: version, rows, loss, accuracy, at."""
PUBLISHED = "published"
"""The model that the cloud has put on its shelf last: version, digest, size, at."""
RECEIPTS = "receipts/"
"""Prefix, with a node's id behind it: receipts (bytes) that came from there, or this node's own, oldest first."""
SEEN = "autoencoder.version"
"""The highest version of the autoencoder, as the cloud signed it, that was kept here: a lower one is refused."""
SENT = "receipts.sent"
"""Digests of receipts that the parent has."""
CERTIFICATE = "certificate/"
"""Prefix, with a child's id behind it: what the certificate says that it showed last (`identity.facts.Facts`)."""
LEFT_TO = "leaving.to"
"""Where the children of an edge that is drained were told to go: addresses, none if each has its own."""
ASIDE = "outbox.aside"
"""What waits as the parent does not take it: batches, rows, bytes of the longest, limit (the parent's, in bytes)."""
PARCELS = "parcels.refused"
"""Private data that a device could not take in: now (parcels, at the last look), total (refusals, each told once)."""
