from pairs import Pair

from fedagg_edge.fleet.views import ParentView
from fedagg_edge.records import SampleSet
from fedagg_edge.wire import state


def test_the_ledger_is_what_a_parents_end_asks_for(tmp_path):
    pair = Pair(tmp_path)
    view = ParentView(pair.parent)
    wanted = [name for name in vars(state.ParentLedger) if not name.startswith("_")]
    assert len(wanted) > 10
    assert [name for name in wanted if not callable(getattr(view, name, None))] == []
    pair.close()


def test_the_empty_log_has_the_empty_sets_digest(tmp_path):
    pair = Pair(tmp_path)
    assert pair.parent.head(pair.talker.node).digest == state.EMPTY_DIGEST == SampleSet((), ()).digest
    pair.close()
