"""The loop that trains a node of any tier: wait for a turn, take it, keep the weights, say how it went.

One thread that owns learner and ledger. A stop may come at any moment: a turn that was cut off is run again from the
weights it began with, and publishes nothing twice.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fedagg_edge.bridge import Bridge
from fedagg_edge.errors import ArtefactError, DataError, FedaggError, LearnerError, PermissionDenied
from fedagg_edge.failpoints import reach
from fedagg_edge.fleet import journal, moving, parts, receipts, weights
from fedagg_edge.fleet.config import FleetConfig, RoundsConfig
from fedagg_edge.fleet.keys import ASIDE, CERTIFICATE, PARCELS, PROGRESS, PUBLISHED, TERMS
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.metrics import Registry
from fedagg_edge.fleet.parent_link import ParentLink
from fedagg_edge.fleet.publish import Publisher, model_content
from fedagg_edge.fleet.reload import Reloaded
from fedagg_edge.fleet.round_metrics import MetricsFile, metrics_file, round_metrics
from fedagg_edge.fleet.rounds import Conductor, RoundReport
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.turns import Situation, next_turn, offline_pass_due
from fedagg_edge.identity import folder, revocation
from fedagg_edge.identity.facts import Facts
from fedagg_edge.identity.revocation import Revocations
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.ledger.nodes import NodeFacts
from fedagg_edge.ledger.signal import Signal
from fedagg_edge.ledger.store import LedgerStore
from fedagg_edge.node import Node
from fedagg_edge.records import Link, NodeId, Tier
from fedagg_edge.samples import PrivateSamples
from fedagg_edge.tree import Place
from fedagg_edge.wire.terms import CHILD, FINISHED, PRESENT

__all__ = ["NodeLoop", "ParentChanged", "Stopped"]

_LOOK = 0.05  # seconds between looks at the ledger for what another process has committed
_NOBODY = Revocations()
_LIST_EVERY = 15.0  # seconds between tries to read a revocation list that is damaged from the start
_SETTLE_EVERY = 10.0  # seconds, while nothing happens
_MOST_WAITING = 1000  # batches that are counted


class Stopped(BaseException):
    """Raised in the loop's thread when the process was asked to stop."""


class ParentChanged(BaseException):
    """Raised in the middle of a turn when this node has another parent, or rounds go another way than when it began:
    the turn's answer is nobody's, or nobody gives what it waits for."""


@dataclass(slots=True)
class NodeLoop:
    """One node at work. `before_turn` is called between turns: a device takes in new samples there.

    `settle` is called before each turn, as taking in samples has loaded the engine, and where it waits for one, once
    after each and now and then: what was left may be given back.

    `link` is None for the cloud, `publisher` for all others. `stop` ends the loop with `Stopped`; `wake` cuts a wait
    short.
    """

    config: FleetConfig
    tier: Tier
    ledger: Ledger
    log: Log
    link: ParentLink | None = None
    before_turn: Callable[[Bridge], None] | None = None
    private: Callable[[Bridge], PrivateSamples | None] | None = None
    publisher: Publisher | None = None
    settle: Callable[[], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _awake: threading.Event = field(default_factory=threading.Event)
    _bridge: Bridge | None = None
    _ended: float = 0.0
    _passes: float = 0.0  # over all rows, a cloud's
    _parent: NodeId | None = None  # of the turn under way
    _mode: str | None = None  # the same
    _fresh: bool = False
    _taught_by: str | None = None  # the parent of the last turn that was finished
    _number: int = -1  # of the last checkpoint
    _urgent: object = None  # what the link's long poll was interrupted for
    _revoked: Reloaded[Revocations] = field(init=False)
    _row: Mapping[str, Any] = field(default_factory=dict)  # of metrics.jsonl, the last one
    _metrics: MetricsFile = field(init=False)
    _seen: tuple[int, Revocations] = field(init=False)  # the mark of when the last wait ended
    _list_due: float = -math.inf
    _settled: float = -math.inf

    def __post_init__(self) -> None:
        place = self.config.state / "identity"
        self._revoked = Reloaded([place / folder.REVOKED], lambda: revocation.load(place), self.log)
        self._metrics = MetricsFile(metrics_file(self.config.state), self.log)
        self._seen = self._mark()

    @property
    def checkpoints(self) -> Path:
        """Where weights are kept."""
        return self.config.state / "weights"

    def wake(self) -> None:
        """Something may have arrived."""
        self._awake.set()

    def wait(self, seconds: float) -> None:
        """Return when something may have arrived, or after `seconds`; raise Stopped when the node is to stop."""
        deadline = time.monotonic() + seconds
        while True:
            self._check()
            if self._parent is not None and (self._parent, self._mode) != (self._place(()).parent, self._rounds().mode):
                raise ParentChanged
            left = deadline - time.monotonic()
            if left <= 0 or self._awake.wait(min(left, _LOOK)) or self._mark() != self._seen:
                self._awake.clear()
                self._seen = self._mark()  # before the looks: what comes after them ends the next wait at once
                self._hurry()
                self._tell_metrics()
                return

    def _check(self) -> None:
        """Raise Stopped when the node is to stop, and what ended the link to the parent: without it a node must not go
        on as if nothing had happened."""
        if self.stop.is_set():
            raise Stopped
        if self.link is not None and self.link.error is not None:
            raise self.link.error

    def _hurry(self) -> None:
        """Have the link send what waits for the parent: own samples, or what the gateway took from children."""
        if self.link is None:
            return
        receipts_due = bool(self.ledger.get(FINISHED)) and self.ledger.relays and bool(receipts.pending(self.ledger))
        if self.ledger.pending(1, inline=0) or receipts_due:  # before the end an exchange is never far
            self.link.uplink.poke()
        urgent = (moving.wanted(self.ledger), self.ledger.adoptions())
        if any(urgent) and urgent != self._urgent:
            self.link.uplink.poke()
            self.link.uplink.interrupt()
        self._urgent = urgent

    def _mark(self) -> tuple[int, Revocations]:
        """What changes when another connection commits, or a node is revoked."""
        revoked = _NOBODY if self.tier is Tier.DEVICE else self._revocations()
        return int(self.ledger.db.one("PRAGMA data_version")[0]), revoked

    def _revocations(self) -> Revocations:
        """This node's revocation list. One that is damaged from the start refuses nobody here: the gateway tells. It is
        read again now and then only: a long list takes its time, and a wait looks at it twenty times a second."""
        if time.monotonic() < self._list_due:
            return _NOBODY
        try:
            return self._revoked.get()
        except (FedaggError, OSError):
            self._list_due = time.monotonic() + _LIST_EVERY
            return _NOBODY

    def run(self) -> None:
        """Work until `Stopped`."""
        bridge, classes = self._parts_of_federation()
        learner = parts.make_learner(self.config, bridge.sample_shape, classes)
        saved, problems = weights.load_newest(self.checkpoints)
        if problems:
            self.log.warning("checkpoint_damaged", count=len(problems))
        if saved is not None:
            try:
                learner.load_state(saved.state)
            except LearnerError as error:
                raise LearnerError(
                    f"{self.checkpoints}: {error}; the configuration's model, optimizer or classes are not those that "
                    "the node has trained with: put them back, or remove this folder to train anew"
                ) from error
        done, trained = (-1, {}) if saved is None else (saved.done, dict(saved.trained))
        place = self._place(())
        if saved is not None:
            self._number = saved.version
            self._taught_by = saved.parent
            self._fresh = saved.parent not in (None, place.parent)
        node = Node(
            place=place,
            federation=self.config.federation,
            classes=classes,
            seed=self.config.node.seed,
            learner=learner,
            bridge=bridge,
            store=LedgerStore(self.ledger),
            hyperparameters=self.config.training,
            knowledge_format=self.config.knowledge,
        )
        signal = Signal(self.config.state / "gateway.sock")
        conductor = Conductor(
            node,
            self.ledger,
            self.config.rounds,
            time.monotonic,
            self.wait,
            time.time,
            published=lambda link: self._published(link, signal),
            gone=lambda child: not self._is_here(child),
            trained=trained,
        )
        self._ended = time.monotonic()
        self._row = {} if saved is None else saved.row
        try:
            if saved is not None and saved.row:  # killed since the checkpoint: what should have followed follows now
                self._follow_up(node, saved.row)
            if done >= 0:  # a stop may have come between a round's end and its publication
                self._publish_if_due(node, done, finished=bool(self.ledger.get(FINISHED)))
            while True:
                self._check()
                if self.before_turn is not None:
                    self.before_turn(bridge)
                    self._hurry()
                done = self._turn(node, conductor, done)
        finally:
            signal.close()

    def _turn(self, node: Node, conductor: Conductor, done: int) -> int:
        """Take the turn that is due, if any; the last version that was finished."""
        children = self._children()
        before, node.place = node.place.parent, self._place(children)
        self._fresh = self._fresh or (before != node.place.parent and done >= 0)
        now = self._situation(node, conductor, children, done)
        self._open_link(now)
        rounds = conductor.rounds = self._rounds()
        version = next_turn(now, rounds)
        if version is None:
            if offline_pass_due(now, rounds):
                self._offline_pass(node, conductor, done)
            self._settle()
            self.wait(min(self.config.poll, self.config.rounds.idle) if self.tier is Tier.DEVICE else 1.0)
            return done
        self._take_private(node)
        self._settle(pause=0.0)
        began = time.monotonic()
        self._parent, self._mode = node.place.parent, rounds.mode
        try:
            report = conductor.run(version)
        except ParentChanged:
            self._restore(node, conductor)
            return done
        except DataError as error:  # an entry came whose rows are forgotten by the next one, which is on its way
            self.log.failure("turn_put_off", error)
            self._restore(node, conductor)
            self._parent = None
            self.wait(1.0)
            return done
        finally:
            self._parent = None
        self._fresh = False
        self._finish(node, conductor, report, time.monotonic() - began)
        return version

    def _settle(self, pause: float = _SETTLE_EVERY) -> None:
        """There is nothing to do: once after a turn, and now and then, as the link's thread leaves something, too."""
        if self.settle is not None and time.monotonic() >= self._settled + pause:
            self._settled = time.monotonic()
            self.settle()

    def _take_private(self, node: Node) -> None:
        """Let the node see the private samples that are here now."""
        if self.private is not None and self._bridge is not None:
            node.samples = self.private(self._bridge)

    def _restore(self, node: Node, conductor: Conductor) -> None:
        """Back to the weights that the turn began with."""
        saved, _ = weights.load_newest(self.checkpoints)
        if saved is None:
            node.learner = parts.make_learner(self.config, node.bridge.sample_shape, node.classes)
        else:
            node.learner.load_state(saved.state)
        conductor.trained.clear()
        conductor.trained |= {} if saved is None else saved.trained

    def _rounds(self) -> RoundsConfig:
        """How rounds go. The cloud decides for all on whether they wait for each other, by what parents tell: one that
        counts turns of its own below a parent that waits for a version, or above children that are told not to wait,
        may never give or get that. Terms outlive a restart; a node takes no turn before it has some."""
        rounds, mode = self.config.rounds, (self.ledger.get(TERMS) or {}).get("mode")
        if self.tier is Tier.CLOUD or mode not in ("sync", "async"):
            return rounds
        return msgspec.structs.replace(rounds, mode=mode)

    def _open_link(self, now: Situation) -> None:
        """Begin to exchange with the parent: a device once it has samples there, an edge once its children are here."""
        if self.link is None or now.shared == 0:
            return
        if self.tier is Tier.DEVICE or now.done >= 0 or now.present >= self.config.rounds.children:
            self.link.open()

    def _situation(self, node: Node, conductor: Conductor, children: tuple[NodeId, ...], done: int) -> Situation:
        terms = self.ledger.get(TERMS) or {}
        link = node.place.link
        parent = None if link is None else self.ledger.newest(link, link.parent)
        links = [node.place.link_to(c) for c in children] + ([] if link is None else [link])
        news, begun = False, -1
        if self._rounds().mode == "async":
            self._take_private(node)
            news = any(conductor.is_news(x) for x in links)
            begun = max((self.ledger.version(x, node.place.id) for x in links), default=-1)
        return Situation(
            tier=self.tier,
            done=done,
            target=int(terms.get("target", 0)),
            parent=-1 if parent is None else parent.knowledge.version,
            shared=self._shared(children),
            present=len(children),
            news=news,
            idle=time.monotonic() - self._ended,
            offline=self.link is not None and self.link.offline,
            finished=bool(self.ledger.get("finished")),
            fresh=self._fresh,
            published=-1 if link is None else self.ledger.version(link, self.ledger.node),
            begun=begun,
            base=int(terms.get("base", 0)),
        )

    def _shared(self, children: tuple[NodeId, ...]) -> int:
        """Samples that the parent has committed (a cloud: that it holds); 0 while an entry is here whose rows are
        forgotten by the next one, which is on its way."""
        try:
            if self.tier is Tier.CLOUD:
                return sum(len(self.ledger.samples(c)) for c in children)
            return len(self.ledger.samples(self.ledger.node))
        except DataError:
            return 0

    def _children(self) -> tuple[NodeId, ...]:
        """Children that have samples here, have begun to exchange and are not refused, in the order of their ids."""
        if self.tier is Tier.DEVICE:
            return ()
        return tuple(c for c in sorted(self.ledger.children()) if self._is_here(c))

    def _is_here(self, child: NodeId) -> bool:
        """Whether to count on a child's answer. Who said that it goes, or is revoked, gives none however long one
        waits; one that is back, or was enrolled again, counts again."""
        facts, said = self.ledger.facts_of(child), self.ledger.get(CHILD + child)
        if facts is None or not facts.active or facts.revoked is not None or self._is_revoked(facts):
            return False
        if isinstance(said, dict) and said.get("left") is not None:
            return False
        present = self.ledger.get(PRESENT + child) is True and self.ledger.head(child).entry > 0
        return present and len(self.ledger.samples(child)) > 0

    def _is_revoked(self, facts: NodeFacts) -> bool:
        """Whether the gateway refuses the certificate that the child showed last; of one that has shown none since
        these are kept, the newest that was seen or made here."""
        known = self._revocations()
        said = self.ledger.get(CERTIFICATE + facts.node)
        if said is not None:
            try:
                revocation.check(known, msgspec.convert(said, Facts))
            except PermissionDenied:
                return True
            return False
        if facts.serial in known.serials:
            return True
        at = known.nodes.get(facts.node)
        return at is not None and (self.ledger.certified(facts.node) or facts.enrolled) <= at

    def _place(self, children: tuple[NodeId, ...]) -> Place:
        terms = self.ledger.get(TERMS) or {}
        parent = None if self.tier is Tier.CLOUD else NodeId(terms["parent"])
        return Place(parts.node_of(self.config), self.tier, self.config.node.model, parent, children)

    def _parts_of_federation(self) -> tuple[Bridge, int]:
        """The autoencoder and the number of classes, as soon as the parent has told them."""
        shelf = DiskShelf(self.config.state / "artefacts")
        while True:
            terms = self.ledger.get(TERMS)
            found = shelf.find("autoencoder")
            if terms is not None and found is not None and terms["autoencoder"] in (None, found.digest.hex()):
                shelf.content(found)  # damaged: says so
                self._bridge = parts.open_federations_bridge(self.config, found.digest.hex())
                return self._bridge, int(terms["classes"])
            self.wait(1.0)

    def _published(self, link: Link, signal: Signal) -> None:
        if link.child == self.ledger.node:
            if self.link is not None:
                self.link.uplink.poke()
        else:
            signal.notify(link.child)

    def _offline_pass(self, node: Node, conductor: Conductor, done: int) -> None:
        """Train once more on what the parent said last."""
        link = node.place.link
        heard = None if link is None else self.ledger.newest(link, link.parent)
        if heard is None or done < 0:
            return
        self._take_private(node)
        report = conductor.repeat(heard.knowledge, done)
        if report.trained or report.refused:
            self._finish(node, conductor, report, 0.0, keep_version=done)
        else:  # it has no sample any more that the parent spoke of: nothing to learn, nothing to write
            self._ended = time.monotonic()

    def _finish(
        self,
        node: Node,
        conductor: Conductor,
        report: RoundReport,
        seconds: float,
        keep_version: int | None = None,
    ) -> None:
        turn = report.version if keep_version is None else keep_version
        self._number = max(turn, self._number + 1)
        self._taught_by = node.place.parent if keep_version is None else self._taught_by
        self._ended = time.monotonic()
        row: dict[str, Any] = {
            "schema": 1,
            "version": report.version,
            "seconds": round(seconds, 3),
            "rows": sum(r.rows for r in report.trained),
            "loss": float(np.mean([r.loss for r in report.trained])) if report.trained else None,
            "late": len(report.late),
            "silent": len(report.silent),
            "refused": len(report.refused),
            "set_aside": (self.ledger.get(ASIDE) or {}).get("rows", 0),
            "parcels_refused": (self.ledger.get(PARCELS) or {}).get("now", 0),
            "accuracy": self._evaluate(node),
            "at": time.time(),
        }
        if self.tier is Tier.CLOUD:
            row["passes"] = self._passes + row["rows"] / max(1, self._shared(node.place.children))
            row["finished"] = self._is_over(report.version, row["passes"])
        if keep_version is not None:
            row["offline"] = True
        saved = weights.Saved(self._number, node.learner.state(), conductor.trained, turn, self._taught_by, row)
        weights.save(self.checkpoints, saved)
        reach("node_loop.finish.after-checkpoint")
        self._follow_up(node, row)
        reach("node_loop.finish.after-row")
        self.log.info(
            "round",
            version=report.version,
            rows=row["rows"],
            seconds=row["seconds"],
            **({} if row["accuracy"] is None else {"accuracy": round(row["accuracy"], 4)}),
        )
        for _ in report.refused:
            self.log.warning("pass_refused", version=report.version)
        self._settled = -math.inf

    def _follow_up(self, node: Node, row: Mapping[str, Any]) -> None:
        """What follows a checkpoint. Again it changes nothing: a process that was killed before it does it later."""
        self._passes = float(row.get("passes", 0.0))
        if row.get("finished") and self.ledger.get(FINISHED) is not True:
            self._finish_training(int(row["version"]))
            reach("node_loop.follow-up.after-finished")
        if self.tier is Tier.CLOUD:
            self._publish_if_due(node, int(row["version"]), finished=bool(row.get("finished")))
        reach("node_loop.follow-up.after-publication")
        self.ledger.put(PROGRESS, {k: row.get(k) for k in ("version", "rows", "loss", "accuracy", "at")})
        reach("node_loop.follow-up.after-progress")
        journal.append(self.config.state / "metrics.jsonl", row)
        self._row = row
        self._metrics.hurry()
        self._tell_metrics()

    def _tell_metrics(self) -> None:
        if self.tier is not Tier.DEVICE:  # which has no gateway
            self._metrics.tell(self._registry)

    def _registry(self) -> Registry:
        offline = None if self.link is None else self.link.offline
        waiting = len(self.ledger.pending(_MOST_WAITING, inline=0))
        return round_metrics(self._row, present=len(self._children()), waiting=waiting, offline=offline)

    def _publish_if_due(self, node: Node, version: int, *, finished: bool) -> None:
        """Put the model on the shelf every so many rounds, and at the end. What goes wrong is told, and the training
        goes on: the next one is tried again."""
        every = self.config.publish.every
        due = finished or (every > 0 and (version + 1) % every == 0)
        known = (self.ledger.get(PUBLISHED) or {}).get("version", -1)
        if self.publisher is None or not due or known >= version:
            return
        try:
            content = model_content(self.config, node.learner.state(), node.bridge, node.classes, version)
            made = self.publisher.put_model(self.ledger, content, version)
        except (FedaggError, OSError) as error:
            self.log.failure("publication_failed", error, version=version)
            return
        self.log.info("model_published", version=version, bytes=made.size, digest=made.digest.hex()[:12])

    def _is_over(self, version: int, passes: float) -> bool:
        """Whether the cloud ends the training: in sync after `target` rounds, which its terms have as a version, in
        async after that many passes over all rows."""
        if self.config.rounds.mode == "async":
            return 0 < self.config.rounds.target <= passes
        return 0 < int((self.ledger.get(TERMS) or {}).get("target", 0)) <= version + 1

    def _finish_training(self, version: int) -> None:
        with self.ledger.transaction():
            self.ledger.put(FINISHED, True)
        signal = Signal(self.config.state / "gateway.sock")
        for child in self.ledger.children():
            signal.notify(child)
        signal.close()
        self.log.info("finished", version=version)

    def _evaluate(self, node: Node) -> float | None:
        """Accuracy on the configured test samples."""
        if self.config.evaluation is None:
            return None
        path = self.config.path(self.config.evaluation)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                x_N, y_N = node.bridge.scale(arrays["x"]), arrays["y"]
        except (OSError, ValueError, KeyError, DataError, ArtefactError) as error:
            self.log.failure("evaluation_failed", error)
            return None
        return float((node.learner.logits(x_N).argmax(1) == y_N).mean())
