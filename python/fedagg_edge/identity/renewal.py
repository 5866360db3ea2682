"""When to renew a certificate, as functions of times alone."""

from __future__ import annotations

from enum import StrEnum

from fedagg_edge.identity.pem import Validity

__all__ = ["DAY", "GRACE", "LIFETIME", "LONGEST", "SKEW", "Standing", "clock_is_unset", "renewal_due", "standing"]

DAY = 86_400.0
LIFETIME = 7 * DAY
"""Of a node's certificate, seconds."""
LONGEST = 90 * DAY
"""The longest lifetime that an issuer gives."""
GRACE = 30 * DAY
"""How long an expired certificate may still be renewed: boards that were off."""
SKEW = 300.0
"""A certificate is valid from this many seconds before it was made: clocks differ."""

_PART = 2 / 3
_SPREAD = 1 / 12  # of the lifetime: 14 hours of 7 days


class Standing(StrEnum):
    """What a certificate is good for at some time."""

    VALID = "valid"
    EXPIRED = "expired"  # may be renewed, by a signed request
    LAPSED = "lapsed"  # expired for longer than GRACE: enrol again


def renewal_due(validity: Validity, jitter: float) -> float:
    """When to renew, Unix seconds: after two thirds of the lifetime, later by up to a twelfth.

    `jitter` in [0, 1): draw it once per certificate, so that a fleet that was enrolled in one go does not renew in
    one go.
    """
    if not 0.0 <= jitter < 1.0:
        raise ValueError(f"jitter: got {jitter}, expected 0 <= jitter < 1")
    lifetime = validity.not_after - validity.not_before
    return validity.not_before + lifetime * (_PART + _SPREAD * jitter)


def standing(validity: Validity, now: float) -> Standing:
    """What a certificate is good for at `now`, by a clock that is right."""
    if now <= validity.not_after:
        return Standing.VALID
    return Standing.EXPIRED if now <= validity.not_after + GRACE else Standing.LAPSED


def clock_is_unset(now: float, *known: Validity) -> bool:
    """Whether `now` is evidently wrong: before a certificate that is here was made."""
    return any(now < validity.not_before for validity in known)
