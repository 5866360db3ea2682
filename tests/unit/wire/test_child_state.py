import inspect

from fedagg_edge.fleet.views import ChildView
from fedagg_edge.wire.child_state import ChildState


def test_the_ledger_fits_the_protocol():
    for name, wanted in vars(ChildState).items():
        if not name.startswith("_") and callable(wanted):
            assert list(inspect.signature(wanted).parameters) == list(
                inspect.signature(getattr(ChildView, name)).parameters
            ), name
