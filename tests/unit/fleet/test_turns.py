from dataclasses import replace

import pytest

from fedagg_edge.fleet.config import RoundsConfig
from fedagg_edge.fleet.turns import Situation, next_base, next_turn, offline_pass_due
from fedagg_edge.records import Tier

SYNC, ASYNC = RoundsConfig(children=2), RoundsConfig(mode="async", children=2, idle=60.0)
DEVICE = Situation(Tier.DEVICE, done=4, target=0, parent=4, shared=10, present=0, news=False, idle=0.0)
EDGE = replace(DEVICE, tier=Tier.EDGE, present=2)
CLOUD = replace(EDGE, tier=Tier.CLOUD, parent=-1)
BASE = 1_000_000_000


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (DEVICE, None),
        (replace(DEVICE, parent=5), 5),
        (replace(DEVICE, parent=9), 9),
        (replace(DEVICE, parent=5, shared=0), None),
        (EDGE, 5),
        (replace(EDGE, parent=6, published=5), 5),  # killed after its answer to round 5: 5 again, not on to 6
        (replace(DEVICE, parent=6, published=5), 5),
        (replace(DEVICE, parent=5, published=4), 5),
        (replace(EDGE, parent=3), 5),  # ahead of its parent, which still trains
        (replace(EDGE, parent=8), 8),  # fell behind
        (replace(EDGE, parent=-1, done=-1), 0),
        (replace(EDGE, done=-1, present=1), None),  # the first round waits for all
        (replace(EDGE, present=1), 5),  # a later one does not
        (CLOUD, 5),
        (replace(CLOUD, target=5), None),
        (replace(CLOUD, finished=True), None),
        (replace(DEVICE, parent=5, target=5), None),
        (replace(DEVICE, parent=3, fresh=True), 3),  # the new parent is behind the old one
        (replace(EDGE, parent=3, fresh=True), 3),
        (replace(EDGE, parent=-1, fresh=True), None),  # it has not spoken yet
        (replace(CLOUD, base=BASE), BASE),  # it has waited for nobody before
        (replace(CLOUD, base=BASE, done=-1), BASE),
        (replace(CLOUD, base=BASE, done=BASE + 1, target=BASE + 3), BASE + 2),
        (replace(CLOUD, base=BASE, done=BASE + 2, target=BASE + 3), None),
        (replace(EDGE, done=10_000, parent=BASE), BASE),
        (replace(DEVICE, done=10_000, parent=BASE), BASE),
    ],
)
def test_sync(now, expected):
    assert next_turn(now, SYNC) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (DEVICE, None),
        (replace(DEVICE, news=True), 5),
        (replace(DEVICE, idle=60.0), 5),
        (replace(DEVICE, idle=60.0, offline=True), None),  # it makes a pass of its own instead
        (replace(DEVICE, idle=60.0, offline=True, news=True), 5),
        (replace(EDGE, idle=60.0, offline=True), 5),
        (replace(DEVICE, done=-1), None),  # nobody has spoken to it yet
        (replace(EDGE, done=-1, parent=-1), 0),
        (replace(EDGE, news=True), 5),
        (CLOUD, None),
        (replace(CLOUD, done=-1), 0),
        (replace(CLOUD, news=True, finished=True), None),
        (replace(CLOUD, news=True, target=3), 5),  # the target counts passes, not turns
        (replace(CLOUD, news=True, begun=5), 5),
        (replace(CLOUD, news=True, begun=BASE), BASE),  # a round that was cut off: what it gave stands until then
    ],
)
def test_async(now, expected):
    assert next_turn(now, ASYNC) == expected


def test_rounds_begin_anew_above_all_turns_that_were_counted_in_async():
    assert next_base("async", "sync", 0) == BASE
    assert next_base("async", "sync", BASE) == 2 * BASE
    for before, mode in ((None, "sync"), (None, "async"), ("sync", "sync"), ("sync", "async"), ("async", "async")):
        assert next_base(before, mode, BASE) == BASE
    assert next_base("async", "sync", 1000 * BASE) == 1000 * BASE  # a target has to fit the wire


def test_a_device_that_is_cut_off_goes_on_with_what_it_knows():
    alone = replace(DEVICE, offline=True, idle=60.0)
    assert offline_pass_due(alone, ASYNC)
    assert not offline_pass_due(replace(alone, idle=59.0), ASYNC)
    assert not offline_pass_due(replace(alone, offline=False), ASYNC)
    assert not offline_pass_due(replace(alone, parent=-1), ASYNC)
    assert not offline_pass_due(replace(alone, tier=Tier.EDGE), ASYNC)
    assert not offline_pass_due(replace(alone, finished=True), ASYNC)
