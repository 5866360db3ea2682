"""Every exception that fedagg_edge raises on purpose.

    FedaggError
    |-- ConfigError          a configuration file or key is wrong          (also a ValueError)
    |-- DataError            samples, labels or arrays a user supplied     (also a ValueError)
    |-- ArtefactError        an autoencoder or model file is not usable
    |-- CheckpointError      a checkpoint is missing, corrupt or foreign
    |-- LearnerError         a model cannot do what was asked of it
    |-- ExportError          a model cannot be compiled for a device's runtime
    |-- StorageError         a node's ledger cannot be opened, read or written
    |   |-- StorageBusy           locked by another process for too long
    |   |-- StorageFailed         the disk failed to read or write; it may do so again later
    |   `-- StorageFull           no room: nothing was changed, what was committed stays readable
    |       `-- OutboxFull        the parent was out of reach for so long that the outbox is at its bound
    |-- IdentityError        a key, certificate, token or authority is missing, damaged or does not fit
    |   `-- IdentityBusy          the process that certifies or signs was too slow or killed; later it may work
    |-- StateInUse           another process owns the state folder
    `-- ProtocolError
        |-- LocalProtocolError    this node broke the protocol: our bug
        `-- RemoteProtocolError   the neighbour broke it: their bug, or an attack
            |-- Conflict              other content for what was committed before
            |-- PermissionDenied      it is not who it says, is revoked, or may not do that
            `-- Unreachable           it gave no answer, or said: later

A message is lower-case and has no full stop; it says what was got, what was expected and, where the reader can
act, what to do. Kernels raise plain ValueError and TypeError: they are array functions.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ArtefactError",
    "CannotCertify",
    "CheckpointError",
    "ConfigError",
    "Conflict",
    "DataError",
    "ExportError",
    "FedaggError",
    "IdentityBusy",
    "IdentityError",
    "LearnerError",
    "LocalProtocolError",
    "OutboxFull",
    "PermissionDenied",
    "ProtocolError",
    "RemoteProtocolError",
    "StateInUse",
    "StorageBusy",
    "StorageError",
    "StorageFailed",
    "StorageFull",
    "Unreachable",
    "nearest",
]


class FedaggError(Exception):
    """Base class; catching it catches everything this package raises on purpose."""


class ConfigError(FedaggError, ValueError):
    """Raised when a configuration is wrong; the message names file, key, value and remedy."""


class DataError(FedaggError, ValueError):
    """Raised when user-supplied samples or labels have the wrong shape, dtype, range or pairing."""


class ArtefactError(FedaggError):
    """Raised when an autoencoder or model file is corrupt, of a foreign format, or not the pinned one."""


class CheckpointError(FedaggError):
    """Raised when a checkpoint is missing, corrupt, or belongs to another run."""


class LearnerError(FedaggError):
    """Raised when a learner cannot be made, stepped or restored."""


class ExportError(FedaggError):
    """Raised when a model cannot be compiled for a device's runtime, or what was compiled is not right."""


class StorageError(FedaggError):
    """Raised when a ledger is corrupt, foreign, too new, locked for too long, or its disk fails."""


class StorageBusy(StorageError):
    """Raised when another process has had the ledger locked for too long; later it may be free."""


class StorageFailed(StorageError):
    """Raised when the disk did not read or write; nothing was changed, and trying again later may work."""


class StorageFull(StorageError):
    """Raised when there is no room for what was asked; the transaction was undone and reading goes on."""


class OutboxFull(StorageFull):
    """Raised when a node may keep no more for a parent that it cannot reach."""


class IdentityError(FedaggError):
    """Raised when a key, certificate, token or authority is missing, damaged or does not fit; never repeats a
    secret.
    """


class IdentityBusy(IdentityError):
    """Raised when the process that certifies, signs or checks took too long or was killed: the machine is overloaded,
    nothing is wrong with the identity."""


class CannotCertify(IdentityError):
    """Raised by a server that has no signing key, or one that may not sign for this role: another server may."""


class StateInUse(FedaggError):
    """Raised when another process owns the state folder."""


class ProtocolError(FedaggError):
    """Base class of broken exchanges between neighbours."""


class LocalProtocolError(ProtocolError):
    """Raised when this node is about to break the protocol."""


class RemoteProtocolError(ProtocolError):
    """Raised when a neighbour's message does not fit what the link agreed on."""


class Conflict(RemoteProtocolError):
    """Raised when a key or version that was committed comes again with other content."""


class PermissionDenied(RemoteProtocolError):
    """Raised when a neighbour is not who it says, is revoked, or may not do what it asked for."""


class Unreachable(RemoteProtocolError):
    """Raised when a neighbour gave no answer, or said that it cannot now: the same again later may do."""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word closest to `wrong`, or an empty string."""
    import difflib  # noqa: PLC0415  only for who made a mistake

    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
