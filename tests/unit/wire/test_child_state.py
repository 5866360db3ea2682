from pairs import Pair

from fedagg_edge.fleet.views import ChildView
from fedagg_edge.wire import child_state


def test_the_ledger_is_what_a_childs_end_asks_for(tmp_path):
    pair = Pair(tmp_path)
    wanted = [name for name in vars(child_state.ChildState) if not name.startswith("_")]
    assert len(wanted) > 7
    assert [n for n in wanted if not callable(getattr(ChildView(pair.child), n, None))] == []
    pair.close()
