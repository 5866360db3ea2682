"""Named places where a test makes the process die as a power cut would: SIGKILL, no handler, no flush.

``FEDAGG_FAILPOINT=name:n`` arms one in a process to come; `arm` arms one in this process. Unarmed, a place costs one
comparison.
"""

from __future__ import annotations

import os
import signal

__all__ = ["arm", "reach"]

_armed: str | None = None
_left = 0


def arm(name: str | None, nth: int = 1) -> None:
    """Die when `name` is reached for the `nth` time from now; None disarms."""
    global _armed, _left
    _armed, _left = name, nth


def reach(name: str) -> None:
    """Mark a place; names are ``module.operation.moment``."""
    if _armed is not None and name == _armed:
        _hit()


def _hit() -> None:
    global _left  # noqa: PLW0603
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


if _wanted := os.environ.get("FEDAGG_FAILPOINT"):
    _name, _, _nth = _wanted.partition(":")
    arm(_name, int(_nth or 1))
