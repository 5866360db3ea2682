"""Every event has its place in the union that callers match on."""

import typing

from fedagg_edge.wire import events


def test_the_union_has_every_event_and_nothing_else():
    kinds = {getattr(events, name) for name in events.__all__ if name != "Event"}
    assert set(typing.get_args(events.Event)) == kinds


def test_events_are_values():
    assert events.EntryCommitted(1, 2) == events.EntryCommitted(1, 2) != events.EntryCommitted(1, 3)
    assert len({events.Moved(1), events.Moved(1), events.Settled("d")}) == 2
