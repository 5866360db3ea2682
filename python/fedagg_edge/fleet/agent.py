"""The device agent: takes in private samples as they come, trains beside them, answers the application.

    agent = Agent("device.toml")
    agent.start()
    agent.predict(x)          # always with the last good weights
    agent.stop()

`fedagg device --config device.toml` runs the same in the foreground.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.bridge import Bridge
from fedagg_edge.errors import ConfigError, DataError, LearnerError, OutboxFull
from fedagg_edge.fleet import parts, weights
from fedagg_edge.fleet.backoff import Backoff
from fedagg_edge.fleet.clocks import SET, Clocks
from fedagg_edge.fleet.config import FleetConfig, load_fleet_config
from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.keys import PARCELS, TERMS
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.member import run_member
from fedagg_edge.fleet.node_loop import NodeLoop
from fedagg_edge.fleet.predictor import Predictor
from fedagg_edge.fleet.run import exit_of
from fedagg_edge.fleet.source import Parcel, Source, open_source
from fedagg_edge.ledger import private
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.lock import StateLock
from fedagg_edge.records import Embeddings, SampleSet, Tier
from fedagg_edge.samples import PrivateSamples

__all__ = ["Agent", "Intake"]

_DAY = 86_400.0
_PASSING = (Exit.STORAGE, Exit.TEMPORARY)
_FIRST, _LONGEST = 5.0, 60.0  # seconds until what ended the work may have passed


class Intake:
    """A device's private samples: from the source into the ledger, and from there to training. One thread."""

    def __init__(self, config: FleetConfig, ledger: Ledger, log: Log, clocks: Clocks) -> None:
        self._config, self._ledger, self._log, self._clocks = config, ledger, log, clocks
        self._source: Source | None = None
        self._due = 0.0
        self._cached: PrivateSamples | None = None
        self._refused: frozenset[str] = frozenset()  # what was said of the parcels refused at the last look
        self._told_apart = False  # the two clocks were far from each other at the last look
        self._scrubbed = False  # nothing that was let go before this start is in a file still

    def look(self, bridge: Bridge) -> None:
        """Take in what is new, let go what retention says; at most every `poll` seconds."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._config.poll
        refused: dict[str, BaseException] = {}
        for found in self._open(bridge).poll(lambda key: private.is_taken(self._ledger.db, key)):
            if isinstance(found, DataError):
                refused[str(found)] = found.__cause__ or found
                continue
            try:
                self._take(found, bridge)
            except OutboxFull as error:
                self._log.failure("outbox_full", error)
                refused |= dict.fromkeys(self._refused - set(refused), error)  # the rest was not looked at
                break
            except DataError as error:
                refused[f"{found.key}: {error}"] = error
        self._count(refused)
        self._retire()

    def _count(self, refused: Mapping[str, BaseException]) -> None:
        """Log what was not refused at the last look, and count: a refused parcel is looked at again each time."""
        new = [error for text, error in refused.items() if text not in self._refused]
        self._refused = frozenset(refused)
        for error in new:
            self._log.failure("parcel_refused", error)
        known = self._ledger.get(PARCELS) or {"now": 0, "total": 0}
        found = {"now": len(refused), "total": known["total"] + len(new)}
        if found != known:
            self._ledger.put(PARCELS, found)

    def samples(self, bridge: Bridge) -> PrivateSamples | None:
        """All private samples on the model's scale; None while there are none."""
        if self._cached is None:
            kept = private.load(self._ledger.db, bridge.sample_shape)
            classes = int((self._ledger.get(TERMS) or {})["classes"])
            if kept is not None:
                x_N = bridge.scale(kept.x_N)
                self._cached = PrivateSamples(self._ledger.node, classes, x_N, kept.y_N, kept.counter_N)
        return self._cached

    def _open(self, bridge: Bridge) -> Source:
        if self._source is None:
            data = self._config.data
            if data is None:
                raise ConfigError("data: this key is missing; a device needs it")
            self._source = open_source(data, len(bridge.sample_shape), str(self._config.base_dir))
        return self._source

    def _take(self, parcel: Parcel, bridge: Bridge) -> None:
        """One commit: samples, counters and the batch for the parent."""
        classes = int((self._ledger.get(TERMS) or {})["classes"])
        if len(parcel.y_N) and not 0 <= parcel.y_N.min() <= parcel.y_N.max() < classes:
            raise DataError(f"parcel: got labels {parcel.y_N.min()} to {parcel.y_N.max()}, expected 0 to {classes - 1}")
        code_NB = bridge.encode(bridge.scale(parcel.x_N))
        now = self._clocks.now()
        at = 0.0 if now is None else now.latest  # dated once the time is known
        with self._ledger.transaction():
            counter_N = private.take_in(self._ledger.db, parcel.key, parcel.x_N, parcel.y_N, at)
            if len(counter_N):
                samples = SampleSet.of(self._ledger.node, counter_N)
                self._ledger.send(Embeddings(samples, code_NB, parcel.y_N))
        self._cached = None
        self._log.info("parcel_taken", rows=len(parcel.y_N))

    def _retire(self) -> None:
        keep = self._config.retention
        if not (keep.samples or keep.days):
            return
        since = self._since(keep.days) if keep.days else 0.0
        gone = private.expired(self._ledger.db, self._ledger.node, keep.samples, since)
        if gone is not None:
            with self._ledger.transaction():  # one commit: what is let go here without it is never forgotten above
                private.drop(self._ledger.db, gone)
                self._ledger.retire_rows(gone)
        # if nothing was let go now, too: a kill may have come between the two at an earlier start
        if gone is not None or not self._scrubbed:
            self._scrubbed = self._ledger.scrub()
        if gone is not None:
            self._cached = None
            self._log.info("samples_retired", rows=len(gone))

    def _since(self, days: float) -> float:
        """From when on samples are kept, Unix seconds; 0 while nobody but the own clock says what time it is."""
        now = self._clocks.now()
        if now is None:
            return 0.0
        apart = now.latest - now.earliest
        if apart > _DAY and not self._told_apart:
            self._log.warning("clocks_differ", seconds=round(apart), advice="set the clock or see parent")
        self._told_apart = apart > _DAY
        private.date(self._ledger.db, SET, now.latest)
        return now.earliest - days * _DAY


class Agent:
    """A device inside an application's process: `start` runs it in a thread of its own, which owns the state folder.

    Raises ConfigError for a wrong file; what ends the thread later, so that a person has to mend it, is in `error`.
    What may pass, a disk without room above all, is in `waits_for` until it goes on by itself: predictions go on
    meanwhile, and so does nothing else.
    """

    def __init__(self, config: str | Path | FleetConfig) -> None:
        self.config = config if isinstance(config, FleetConfig) else load_fleet_config(config, Tier.DEVICE)
        self.error: BaseException | None = None
        self.waits_for: Exception | None = None
        self._stop = threading.Event()
        self._loop: NodeLoop | None = None
        self._thread = threading.Thread(target=self._run, name="fedagg-agent", daemon=True)
        self._predictor: Predictor | None = None
        self._lock = StateLock(self.config.state)

    def start(self) -> None:
        """Begin to take in samples, to train and to talk to the parent.

        Raises StateInUse, with the process's id, while another agent or `fedagg device` runs on the same state folder.
        """
        self._lock.acquire()
        try:
            self._thread.start()
        except BaseException:
            self._lock.release(everywhere=True)
            raise

    def stop(self, seconds: float = 30.0) -> None:
        """Stop after the batch under way; the round is run again at the next start. The state folder is free again once
        the thread has ended."""
        self._stop.set()
        self._thread.join(seconds)

    def predict(self, raw_N: NDArray[Any]) -> NDArray[np.int64]:
        """The class of each raw sample [N, ...], by the last good weights. Raises LearnerError before there are any."""
        if self._predictor is None:
            self._predictor = open_predictor(self.config)
        return self._predictor.predict(raw_N)

    def _run(self) -> None:
        try:
            log, backoff = parts.make_log(self.config, Tier.DEVICE), Backoff(base=_FIRST, cap=_LONGEST, rng=Random())
            while not self._stop.is_set():
                self._work(log, backoff)
        except BaseException as error:
            self.error = error
        finally:  # not in `stop`, whose patience may end before this thread and the link's do: both write
            self._lock.release(everywhere=True)

    def _work(self, log: Log, backoff: Backoff) -> None:
        """Be a node until the agent is to stop, or something ends it that may pass: then wait, as in an application no
        unit starts it again. Raises what does not pass."""
        began = time.monotonic()
        try:
            run_member(self.config, Tier.DEVICE, log, self._stop, patience=None)
            self._stop.set()
        except Exception as error:
            if exit_of(error) not in _PASSING:
                raise
            backoff.lasted(time.monotonic() - began)
            pause = backoff.next()
            log.failure("agent_waits", error, seconds=round(pause, 1))
            self.waits_for = error
            self._stop.wait(pause)
            self.waits_for = None


def open_predictor(config: FleetConfig) -> Predictor:
    """A predictor on a node's state folder; raise LearnerError before it has weights to answer with, or while it knows
    neither classes nor autoencoder."""
    from fedagg_edge.fleet.shelf import DiskShelf  # noqa: PLC0415

    unready = LearnerError(
        f"{config.state}: not connected to its parent yet, or no round finished; start the agent and wait for a round"
    )
    folder = config.state / "weights"
    if weights.newest_version(folder) is None:  # before that there may be no ledger, or half of one
        raise unready
    ledger = parts.open_ledger(config, Tier.DEVICE, read_only=True)
    try:
        terms = ledger.get(TERMS)
    finally:
        ledger.close()
    found = DiskShelf(config.state / "artefacts").find("autoencoder")
    if terms is None or found is None:
        raise unready
    bridge = parts.open_federations_bridge(config, found.digest.hex())
    classes = int(terms["classes"])
    return Predictor(folder, bridge, lambda: parts.make_learner(config, bridge.sample_shape, classes))
