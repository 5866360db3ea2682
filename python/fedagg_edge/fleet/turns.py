"""When a node takes its next turn, and which version it has: a pure function of what the node knows.

Sync: a device follows its parent's version; a parent starts the next round by itself, so that an edge and its devices
work on a round while the cloud still trains on the one before, and jumps to its parent's when it fell behind. Async: a
turn is due whenever somebody said something new. Versions never follow a child's: rounds that follow turns of async,
which each node counts by itself, begin at a base above all of them, and the cloud's first one takes everybody there.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedagg_edge.fleet.config import RoundsConfig
from fedagg_edge.records import Tier

__all__ = ["Situation", "next_base", "next_turn", "offline_pass_due"]

_APART = 1_000_000_000  # from one base to the next: at ten turns a second three years
_LAST_BASE = 1000 * _APART  # a target, which counts from there, is at most 2^40 on the wire


def next_base(before: str | None, mode: str, base: int) -> int:
    """The version from which on rounds count, at a start of the cloud in `mode`; `before` is that of its last one."""
    return min(base + _APART, _LAST_BASE) if (before, mode) == ("async", "sync") else base


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides. Versions are -1 for none yet.

    `done`: the last version this node finished. `target`: the first version after the training (0: none). `parent`: the
    newest version of the parent's knowledge here. `shared`: samples that the parent has committed (a cloud: that it
    holds). `present`: children that have samples here and have spoken. `news`: knowledge here that was not trained on.
    `idle`: seconds since the last turn ended. `offline`: whether the parent cannot be reached. `fresh`: whether this
    node has changed its parent and not finished a turn with the new one, whose versions may be behind the old one's.
    """

    tier: Tier
    done: int
    target: int
    parent: int
    shared: int
    present: int
    news: bool
    idle: float
    offline: bool = False
    finished: bool = False
    fresh: bool = False
    published: int = -1  # the newest version that this node has given its parent
    begun: int = -1  # in async, the newest version that this node has given anybody
    base: int = 0  # a cloud's: from which on its rounds count


def next_turn(now: Situation, rounds: RoundsConfig) -> int | None:
    """The version of the turn that is due, or None while there is nothing to do."""
    if now.finished or now.shared == 0:
        return None
    if now.tier is not Tier.DEVICE and now.present < rounds.children and now.done < 0:
        return None
    version = _sync(now) if rounds.mode == "sync" else _async(now, rounds)
    over = rounds.mode == "sync" and now.target > 0 and version is not None and version >= now.target
    return None if over else version


def _sync(now: Situation) -> int | None:
    if now.fresh:
        return now.parent if now.parent >= 0 else None
    if now.published > now.done:  # killed between its answer and its checkpoint: others go on with that answer
        return now.published
    if now.tier is Tier.DEVICE:
        return now.parent if now.parent > now.done else None
    return max(now.done + 1, now.parent, now.base)


def _async(now: Situation, rounds: RoundsConfig) -> int | None:
    due = max(now.done + 1, now.begun)  # a round that was cut off may be far above: what it gave stands until then
    first = now.done < 0 and now.tier is not Tier.DEVICE  # somebody has to speak first: parents do
    if now.news or first:
        return due
    # a turn without news trains on nothing: a device that nobody hears makes passes of its own instead
    return due if now.idle >= rounds.idle and not offline_pass_due(now, rounds) else None


def offline_pass_due(now: Situation, rounds: RoundsConfig) -> bool:
    """Whether a device should train once more on what its parent said last, since it cannot be asked."""
    return (
        now.tier is Tier.DEVICE
        and now.offline
        and not now.finished
        and now.parent >= 0
        and now.shared > 0
        and now.idle >= rounds.idle
    )
