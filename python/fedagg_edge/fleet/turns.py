"""When a node takes its next turn, and which version it has: a pure function of what the node knows.

Sync: a device follows its parent's version; a parent starts the next round by itself, so that an edge and its devices
work on a round while the cloud still trains on the one before, and jumps to its parent's when it fell behind, or to its
children's when they counted turns of their own in async. Async: a turn is due whenever somebody said something new.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedagg_edge.fleet.config import RoundsConfig
from fedagg_edge.records import Tier

__all__ = ["Situation", "next_turn", "offline_pass_due"]


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides. Versions are -1 for none yet.

    `done`: the last version this node finished. `target`: versions after which training is over (0: never). `parent`:
    the newest version of the parent's knowledge here. `shared`: samples that the parent has committed (a cloud: that it
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
    heard: int = -1  # the newest version that a child has given, where that may be above this node's own


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
    # children that counted turns of their own, when nobody waited, are ahead: what they said is no answer to each of
    # the rounds in between. A round that ends the training is not passed over.
    heard = min(now.heard, now.target - 1) if now.target > 0 else now.heard
    return max(now.done + 1, now.parent, heard)


def _async(now: Situation, rounds: RoundsConfig) -> int | None:
    first = now.done < 0 and now.tier is not Tier.DEVICE  # somebody has to speak first: parents do
    if now.news or first:
        return now.done + 1
    # a turn without news trains on nothing: a device that nobody hears makes passes of its own instead
    return now.done + 1 if now.idle >= rounds.idle and not offline_pass_due(now, rounds) else None


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
