"""What a node loop's rounds look like in /metrics: its gateway, another process, serves the text that is saved here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedagg_edge.errors import StorageError
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.metrics import Registry

__all__ = ["MetricsFile", "metrics_file", "round_metrics"]

_EVERY = 15.0  # seconds between looks

_OF_ROW = {
    "version": ("fedagg_round", "The last round that was finished."),
    "at": ("fedagg_round_ended_timestamp_seconds", "When it was, in Unix seconds."),
    "seconds": ("fedagg_round_seconds", "How long it took."),
    "rows": ("fedagg_round_rows", "Rows that it trained on."),
    "loss": ("fedagg_round_loss", "Its loss; absent if nothing was trained."),
    "accuracy": ("fedagg_accuracy", "Accuracy on the configured test samples; absent without."),
    "late": ("fedagg_round_late", "Neighbours whose older knowledge was used."),
    "silent": ("fedagg_round_silent", "Children that had none."),
    "refused": ("fedagg_round_refused", "Passes and knowledge that were left out."),
    "set_aside": ("fedagg_set_aside_rows", "Rows that the parent does not take."),
    "finished": ("fedagg_finished", "1 once the training is over; a cloud's."),
}


def metrics_file(state: Path) -> Path:
    """Where the text is kept."""
    return state / "metrics.prom"


def round_metrics(row: Mapping[str, Any], *, present: int, waiting: int, offline: bool | None) -> Registry:
    """The metrics of a row of metrics.jsonl, and of now: `present` children, `waiting` batches for the parent, and
    whether that is `offline` (None: the cloud has none)."""
    registry = Registry()
    for key, (name, text) in _OF_ROW.items():
        if (value := row.get(key)) is not None:
            registry.gauge(name, text).set(float(value))
    registry.gauge("fedagg_children", "Children that are counted on.").set(present)
    if offline is not None:
        registry.gauge("fedagg_waiting_batches", "Batches that wait for the parent.").set(waiting)
        registry.gauge("fedagg_parent_offline", "1 while the parent does not answer, or refuses all.").set(offline)
    return registry


@dataclass(slots=True)
class MetricsFile:
    """The text at `path`, written when there is something new, a look every 15 s.

    Figures for people end no loop: a disk without room does where something would be lost, and any other error would
    come again with each start. It is in the log, once until it is over.
    """

    path: Path
    log: Log
    _text: str = ""
    _looked: float = -math.inf
    _failed: bool = False

    def hurry(self) -> None:
        """Look at the next call: a round is over."""
        self._looked = -math.inf

    def tell(self, make: Callable[[], Registry]) -> None:
        """Write what `make` gives, if a look is due. Raises StorageError of the ledger, which is more than figures."""
        if time.monotonic() < self._looked + _EVERY:
            return
        self._looked = time.monotonic()
        try:
            registry = make()
            if (text := registry.render()) != self._text:
                registry.save(self.path)
                self._text = text
        except StorageError:
            raise
        except Exception as error:
            if not self._failed:
                self.log.failure("metrics_failed", error)
            self._failed = True
        else:
            self._failed = False
