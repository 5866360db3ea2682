import numpy as np
import pytest
from exchange import content
from hypothesis import given, settings
from hypothesis import strategies as st

from fedagg_edge.errors import DataError
from fedagg_edge.ledger.fold import Fold, only, union, without
from fedagg_edge.records import Embeddings, NodeId, SampleSet


def sample_set(ids):
    names = sorted({o for o, _ in ids})
    return SampleSet(
        tuple(NodeId(o) for o in names), tuple(np.array(sorted(c for p, c in ids if p == o), np.uint64) for o in names)
    )


def rows(ids):
    """The rows of these ids; the content follows from the id."""
    ids = sorted(ids)
    code_NB = np.array([[ord(o), c] for o, c in ids], np.uint8).reshape(-1, 2)
    return Embeddings(sample_set(ids), code_NB, np.array([c % 3 for _, c in ids], np.int64))


IDS = st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=8)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), IDS), max_size=8))
def test_the_set_at_every_entry_is_what_the_entries_leave(steps):
    fold, sets = Fold(), [set()]
    for number, (adds, ids) in enumerate(steps, 1):
        sets.append(sets[-1] | ids if adds else sets[-1] - ids)
        if adds:
            fold.add(number, rows(ids))
        else:
            fold.remove(number, sample_set(ids))
    for entry, expected in enumerate(sets):
        assert fold.samples(entry).digest == sample_set(expected).digest
        assert content(fold.embeddings(entry)) == content(rows(expected))


@given(IDS, IDS)
def test_sets(a, b):
    assert without(sample_set(a), sample_set(b)).digest == sample_set(a - b).digest
    assert union(sample_set(a), sample_set(b)).digest == sample_set(a | b).digest
    assert content(only(rows(a), sample_set(b))) == content(rows(a & b))


def test_erased_rows_keep_their_ids_and_a_held_back_label_may_come_later():
    fold = Fold()
    fold.add(1, rows({("a", 1)}), sample_set({("a", 1), ("a", 2)}))
    assert (len(fold.samples()), len(fold.embeddings())) == (2, 1)
    plain = rows({("b", 2)})
    fold.add(2, Embeddings(plain.samples, plain.code_NB, np.array([-1])))
    fold.add(3, plain)
    assert list(fold.embeddings().label_N) == [1, 2]


def test_other_content_is_refused_and_changes_nothing():
    fold = Fold()
    fold.add(1, rows({("b", 2)}))
    bad = Embeddings(sample_set({("a", 1), ("b", 2)}), np.zeros((2, 2), np.uint8), np.zeros(2, np.int64))
    with pytest.raises(DataError, match=r"\(b, 2\) came with two different contents"):
        fold.add(2, bad)
    with pytest.raises(DataError, match="3 bytes a code, expected 2"):
        fold.add(2, Embeddings(sample_set({("a", 1)}), np.zeros((1, 3), np.uint8), np.zeros(1, np.int64)))
    assert content(fold.embeddings()) == content(rows({("b", 2)}))
    assert fold.entry == 1
