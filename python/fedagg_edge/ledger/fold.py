"""What the entries of one log leave, kept in memory: the set at any entry, and the rows of it that were not erased.

Pure: no SQL. Per origin one table of records, a record for each time that a sample was added; a record is in the set at
entry `k` if ``added <= k < removed``. Reading the head after a few new rows costs those rows and one copy, not the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError
from fedagg_edge.records import Embeddings, NodeId, SampleSet

__all__ = ["EMPTY", "Fold", "only", "parts_of", "pick", "pieces", "pieces_of", "union", "without"]

EMPTY = SampleSet((), ())
_NEVER = np.iinfo(np.int64).max
_PIECE_ROWS, _PIECE_BYTES = 32_768, 16 << 20  # well below what a parent takes in one entry by default (wire/limits.py)


@dataclass(slots=True)
class _Records:
    """Records R of one origin, ascending by counter, then by `added`."""

    counter_R: NDArray[np.uint64]
    added_R: NDArray[np.int64]
    removed_R: NDArray[np.int64]
    here_R: NDArray[np.bool_]  # code and label are not erased
    label_R: NDArray[np.int64]
    code_RB: NDArray[np.uint8]

    def in_set(self, entry: int | None) -> NDArray[np.bool_]:
        if entry is None:
            live_R: NDArray[np.bool_] = self.removed_R == _NEVER
            return live_R
        return (self.added_R <= entry) & (entry < self.removed_R)

    def find(self, counter_N: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(which of `counter_N` are in the set now, the records of those)."""
        record_L = np.flatnonzero(self.removed_R == _NEVER)
        live_L = self.counter_R[record_L]
        at_N = np.searchsorted(live_L, counter_N)
        inside_N = at_N < len(live_L)
        inside_N[inside_N] = live_L[at_N[inside_N]] == counter_N[inside_N]
        return inside_N, record_L[at_N[inside_N]]

    def extend(self, new: _Records) -> None:
        sorted_already = not len(self.counter_R) or not len(new.counter_R) or new.counter_R[0] > self.counter_R[-1]
        joined = [np.concatenate((getattr(self, name), getattr(new, name))) for name in self.__slots__]
        if not sorted_already:
            order = np.lexsort((joined[1], joined[0]))
            joined = [column[order] for column in joined]
        for name, column in zip(self.__slots__, joined, strict=True):
            setattr(self, name, column)


class Fold:
    """The log of one link up to `entry`."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self.entry = 0
        self._origins: dict[NodeId, _Records] = {}
        self._samples: SampleSet | None = EMPTY
        self._embeddings: Embeddings | None = None

    def check(self, embeddings: Embeddings) -> None:
        """Raise DataError if a sample that is in the set comes with other content; a held-back label fits any."""
        got = embeddings.code_NB.shape[1]
        if self._origins and got != self.code_bytes:
            raise DataError(f"embeddings: got {got} bytes a code, expected {self.code_bytes} as in the rows before")
        for origin, rows in parts_of(embeddings.samples):
            records = self._origins.get(origin)
            if records is None:
                continue
            code_NB, label_N = embeddings.code_NB[rows], embeddings.label_N[rows]
            inside_N, record_K = records.find(embeddings.samples.counters[embeddings.samples.origins.index(origin)])
            known_K, label_K = records.label_R[record_K], label_N[inside_N]
            differs_K = (code_NB[inside_N] != records.code_RB[record_K]).any(axis=1)
            differs_K |= (known_K != label_K) & (known_K >= 0) & (label_K >= 0)
            differs_K &= records.here_R[record_K]
            if differs_K.any():
                raise DataError(
                    f"embeddings: sample ({origin}, {records.counter_R[record_K][differs_K][0]}) came with two "
                    "different contents; an embedding may not change once its id is given out"
                )

    def add(self, entry: int, embeddings: Embeddings, ids: SampleSet | None = None) -> None:
        """Entry `entry` appends `embeddings`; `ids`, where given, are all its samples: those without a row are erased.

        Raises DataError as `check` does, and then nothing has changed.
        """
        self.check(embeddings)
        for origin, rows in parts_of(embeddings.samples):
            counter_N = embeddings.samples.counters[embeddings.samples.origins.index(origin)]
            self._add(entry, origin, counter_N, embeddings.code_NB[rows], embeddings.label_N[rows], here=True)
        for origin, counter_N in _pairs(EMPTY if ids is None else without(ids, embeddings.samples)):
            n = len(counter_N)
            blank_NB = np.zeros((n, embeddings.code_NB.shape[1]), np.uint8)
            self._add(entry, origin, counter_N, blank_NB, np.full(n, -1, np.int64), here=False)
        self._moved(entry)

    def remove(self, entry: int, samples: SampleSet) -> None:
        """Entry `entry` forgets `samples`; those not in the set are passed over."""
        for origin, counter_N in _pairs(samples):
            if (records := self._origins.get(origin)) is not None:
                records.removed_R[records.find(counter_N)[1]] = entry
        self._moved(entry)

    def _add(
        self,
        entry: int,
        origin: NodeId,
        counter_N: NDArray[np.uint64],
        code_NB: NDArray[np.uint8],
        label_N: NDArray[np.int64],
        *,
        here: bool,
    ) -> None:
        records = self._origins.get(origin)
        new_N = np.ones(len(counter_N), bool)
        if records is not None:
            inside_N, record_K = records.find(counter_N)
            if here:
                _fill(records, record_K, code_NB[inside_N], label_N[inside_N])
            new_N = ~inside_N
        n = int(new_N.sum())
        added = _Records(
            counter_N[new_N],
            np.full(n, entry, np.int64),
            np.full(n, _NEVER, np.int64),
            np.full(n, here),
            label_N[new_N],
            code_NB[new_N],
        )
        if records is None:
            self._origins[origin] = added
        elif n:
            records.extend(added)

    def _moved(self, entry: int) -> None:
        self.entry = entry
        self._samples = self._embeddings = None

    def samples(self, entry: int | None = None) -> SampleSet:
        """The set at `entry`, or now."""
        if entry is not None and entry != self.entry:
            return self._samples_at(entry)
        if self._samples is None:
            self._samples = self._samples_at(None)
        return self._samples

    def _samples_at(self, entry: int | None) -> SampleSet:
        found = {o: r.counter_R[r.in_set(entry)] for o, r in self._origins.items()}
        names = sorted(o for o, counter_N in found.items() if len(counter_N))
        return SampleSet(tuple(names), tuple(found[o] for o in names))

    def embeddings(self, entry: int | None = None) -> Embeddings:
        """The rows of the set at `entry`, or now, that are not erased."""
        if entry is not None and entry != self.entry:
            return self._embeddings_at(entry)
        if self._embeddings is None:
            self._embeddings = self._embeddings_at(None)
        return self._embeddings

    def _embeddings_at(self, entry: int | None) -> Embeddings:
        names, counters, codes, labels = [], [], [], []
        for origin in sorted(self._origins):
            records = self._origins[origin]
            keep_R = records.in_set(entry) & records.here_R
            if keep_R.any():
                names.append(origin)
                counters.append(records.counter_R[keep_R])
                codes.append(records.code_RB[keep_R])
                labels.append(records.label_R[keep_R])
        if not names:
            return Embeddings(EMPTY, np.empty((0, self.code_bytes), np.uint8), np.empty(0, np.int64))
        return Embeddings(SampleSet(tuple(names), tuple(counters)), np.concatenate(codes), np.concatenate(labels))

    def here(self, entry: int) -> NDArray[np.bool_]:
        """Per row of the set at `entry`: whether it is not erased."""
        here_N = [self._origins[o].here_R[self._origins[o].in_set(entry)] for o in sorted(self._origins)]
        return np.concatenate([*here_N, np.zeros(0, bool)])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its arrays take."""
        return sum(getattr(r, name).nbytes for r in self._origins.values() for name in r.__slots__)

    @property
    def code_bytes(self) -> int:
        """Bytes of a code, 0 before the first."""
        return next((r.code_RB.shape[1] for r in self._origins.values()), 0)


def _fill(
    records: _Records, record_K: NDArray[np.int64], code_KB: NDArray[np.uint8], label_K: NDArray[np.int64]
) -> None:
    """A row that is there already brings what was held back or erased of it."""
    erased_K = ~records.here_R[record_K]
    records.code_RB[record_K[erased_K]] = code_KB[erased_K]
    records.here_R[record_K] = True
    better_K = (records.label_R[record_K] < 0) & (label_K >= 0)
    records.label_R[record_K[better_K]] = label_K[better_K]


def _pairs(samples: SampleSet) -> Iterator[tuple[NodeId, NDArray[np.uint64]]]:
    return zip(samples.origins, samples.counters, strict=True)


def parts_of(samples: SampleSet) -> Iterator[tuple[NodeId, slice]]:
    """Each origin with the slice of its rows."""
    start = 0
    for origin, counter_N in _pairs(samples):
        yield origin, slice(start, start + len(counter_N))
        start += len(counter_N)


def pick(samples: SampleSet, origins: Collection[NodeId]) -> SampleSet:
    """The samples of these origins."""
    kept = [(o, c) for o, c in _pairs(samples) if o in origins]
    return SampleSet(tuple(o for o, _ in kept), tuple(c for _, c in kept))


def members(samples: SampleSet, others: SampleSet) -> NDArray[np.bool_]:
    """Per row of `samples`: whether it is in `others`."""
    theirs, none = dict(_pairs(others)), np.empty(0, np.uint64)
    masks = [np.isin(c, theirs.get(o, none)) for o, c in _pairs(samples)]
    return np.concatenate([*masks, np.zeros(0, bool)])


def without(samples: SampleSet, others: SampleSet) -> SampleSet:
    """The samples that are not in `others`."""
    theirs = dict(_pairs(others))
    left = {o: c[~np.isin(c, theirs[o])] if o in theirs else c for o, c in _pairs(samples)}
    names = tuple(o for o, counter_N in left.items() if len(counter_N))
    return SampleSet(names, tuple(left[o] for o in names))


def union(a: SampleSet, b: SampleSet) -> SampleSet:
    """The samples in `a` or `b`."""
    names = tuple(sorted({*a.origins, *b.origins}))
    parts = {name: [s.counters[s.origins.index(name)] for s in (a, b) if name in s.origins] for name in names}
    return SampleSet(names, tuple(np.unique(np.concatenate(parts[name])) for name in names))


def only(embeddings: Embeddings, samples: SampleSet) -> Embeddings:
    """The rows of `embeddings` whose samples are in `samples`."""
    theirs = dict(_pairs(samples))
    masks = [np.isin(c, theirs[o]) if o in theirs else np.zeros(len(c), bool) for o, c in _pairs(embeddings.samples)]
    kept = [(o, c[mask]) for (o, c), mask in zip(_pairs(embeddings.samples), masks, strict=True) if mask.any()]
    keep_N = np.concatenate([*masks, np.zeros(0, bool)])
    left = SampleSet(tuple(o for o, _ in kept), tuple(c for _, c in kept))
    return Embeddings(left, embeddings.code_NB[keep_N], embeddings.label_N[keep_N])


def pieces(embeddings: Embeddings, most: int = _PIECE_ROWS) -> Iterator[Embeddings]:
    """The rows in parts of at most `most` rows and 16 MiB."""
    width = embeddings.code_NB.shape[1] + 16  # counter and label
    step = max(1, min(most, _PIECE_BYTES // width))
    if len(embeddings) <= step:
        yield embeddings
        return
    for start, samples in zip(range(0, len(embeddings), step), pieces_of(embeddings.samples, step), strict=True):
        rows = slice(start, start + step)
        yield Embeddings(samples, embeddings.code_NB[rows], embeddings.label_N[rows])


def pieces_of(samples: SampleSet, step: int = _PIECE_ROWS) -> Iterator[SampleSet]:
    """The same of ids alone, `step` each."""
    row_N = np.arange(len(samples))
    for start in range(0, max(1, len(samples)), step):
        yield samples.only((row_N >= start) & (row_N < start + step))
