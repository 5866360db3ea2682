import inspect

import pytest

from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.views import ParentView
from fedagg_edge.records import SampleSet
from fedagg_edge.wire.state import EMPTY_DIGEST, ParentLedger, Shelf


@pytest.mark.parametrize(("protocol", "kind"), [(ParentLedger, ParentView), (Shelf, DiskShelf)])
def test_what_is_on_disk_fits_the_protocol(protocol, kind):
    for name, wanted in vars(protocol).items():
        if not name.startswith("_") and callable(wanted):
            assert list(inspect.signature(wanted).parameters) == list(
                inspect.signature(getattr(kind, name)).parameters
            ), name


def test_a_log_without_entries_has_the_empty_sets_digest():
    assert SampleSet((), ()).digest == EMPTY_DIGEST
