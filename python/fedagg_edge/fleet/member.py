"""A training process of the fleet from start to stop: a device, or an edge's or the cloud's node loop."""

from __future__ import annotations

import fcntl
import hashlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from fedagg_edge import extras
from fedagg_edge.autoencoder import artefact as autoencoders
from fedagg_edge.errors import ConfigError, IdentityError
from fedagg_edge.fleet import forgetting, parts
from fedagg_edge.fleet.backoff import Backoff
from fedagg_edge.fleet.clocks import Clocks
from fedagg_edge.fleet.config import FleetConfig, ParentConfig
from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.keys import TERMS
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.node_loop import NodeLoop, Stopped
from fedagg_edge.fleet.notify import extension, notify
from fedagg_edge.fleet.parent_link import ParentLink
from fedagg_edge.fleet.publish import Publisher
from fedagg_edge.fleet.renewal import Renewer, by_own_issuer
from fedagg_edge.fleet.shelf import AUTOENCODER
from fedagg_edge.fleet.turns import next_base
from fedagg_edge.identity.renewal import DAY
from fedagg_edge.ledger.fold import EMPTY
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.ledger.log import links
from fedagg_edge.records import Tier

if TYPE_CHECKING:
    from subprocess import CompletedProcess

_TRY = 120.0  # seconds for one try to enrol
_LOCK_PAUSE = 0.5
_LOOK = 0.25  # seconds between looks at whether to stop
_ALIVE = ("WATCHDOG=1", extension(2 * _TRY))

__all__ = ["enrol_if_needed", "own_renewer", "publish_autoencoder", "run_member"]


@extras.named()
def run_member(
    config: FleetConfig,
    tier: Tier,
    log: Log,
    stop: threading.Event,
    *,
    patience: float | None = 5.0,
    settle: Callable[[], None] | None = None,
) -> None:
    """Train until `stop` is set. Raises FedaggError for what a person has to mend, a missing package among it.

    `patience`: seconds that the link's thread may take to end, None: any; a process that ends needs no more. `settle`:
    see NodeLoop.
    """
    _limit_threads(config)
    ledger = parts.open_ledger(config, tier)
    link: ParentLink | None = None
    renewer: Renewer | None = None
    try:
        if tier is not Tier.DEVICE:
            forgetting.finish(ledger)
        loop, clocks = NodeLoop(config, tier, ledger, log, stop=stop, settle=settle), Clocks()
        if config.parent is not None:
            enrol_if_needed(config, tier, stop)
            link = loop.link = ParentLink(config, config.parent, tier, log, loop.wake, clocks=clocks)
            link.start()
        else:
            loop.publisher = Publisher(config.state)
            publish_autoencoder(config, ledger, loop.publisher)
            renewer = own_renewer(config, loop.publisher, log)
            renewer.start()
        if tier is Tier.DEVICE:
            from fedagg_edge.fleet.agent import Intake  # noqa: PLC0415  agent.py imports this module

            intake = Intake(config, ledger, log, clocks)
            loop.before_turn, loop.private = intake.look, intake.samples
        notify("READY=1")
        loop.run()
    except Stopped:
        log.info("stopped")
    finally:
        if link is not None:
            link.stop(patience)
        if renewer is not None:
            renewer.stop()
        ledger.close()


def enrol_if_needed(config: FleetConfig, tier: Tier, stop: threading.Event | None = None) -> None:
    """Buy the first certificate with the configured token, in a short-lived process.

    Raises IdentityError, and Stopped once `stop` is set: the parent may be away for days.
    """
    stop = stop or threading.Event()
    identity = config.state / "identity"
    if config.parent is None or _is_enrolled(identity):
        return
    if config.parent.token_file is None:
        raise IdentityError(
            f"{identity}: this node has no certificate; run `fedagg enroll`, or name a token in parent.token_file"
        )
    path = config.path(config.parent.token_file)
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: cannot be read; parent.token_file names a file with the enrolment token") from None
    config.state.mkdir(parents=True, exist_ok=True)
    with (config.state / "enrolment.lock").open("wb") as lock:  # an edge's two processes may both come here
        _wait_for(lock.fileno(), stop)
        if not _is_enrolled(identity):
            _enrol(config, config.parent, tier, token, lock.fileno(), stop=stop)


def _is_enrolled(identity: Path) -> bool:
    """A kill between the last two steps of enrolling leaves a certificate without its key: the command ends it."""
    return all((identity / name).exists() for name in ("certificate.pem", "key.pem"))


def _wait_for(lock: int, stop: threading.Event) -> None:
    """Take the lock; another process that enrols may wait for the parent for days."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(*_ALIVE)
            if stop.wait(_LOCK_PAUSE):
                raise Stopped from None
        else:
            return


def _enrol(
    config: FleetConfig, parent: ParentConfig, tier: Tier, token: str, lock: int, *, stop: threading.Event
) -> None:
    """`fedagg enroll` until the parent answers: it may still be starting, or away for days. The lock is the process's
    too, so that one that outlives this node, killed, is waited for."""
    command = [sys.executable, "-m", "fedagg_edge", "enroll", parent.url, "--token", "-"]
    command += ["--state", str(config.state), "--node", config.node.id, "--role", tier.value]
    backoff = Backoff(base=0.5, cap=30.0, rng=Random())
    told = ""
    while True:
        notify(*_ALIVE)  # a parent that is away is no reason to start this node again
        done = _ask(command, token, lock, stop)
        if done is not None:
            if done.returncode == Exit.DONE:
                return
            if done.returncode > 0 and done.returncode != Exit.UNREACHABLE:  # below 0: killed, memory may be short
                break
            if done.stderr != told:  # why it waits, once: no answer, a captive portal, an edge that is drained
                told = done.stderr
                sys.stderr.write(told)
        if stop.wait(backoff.next()):
            raise Stopped
    said = done.stderr.strip().splitlines() or ["no message"]
    raise IdentityError(f"enrolment at {parent.url}: {said[-1].removeprefix('fedagg: ')}")


def _ask(command: list[str], token: str, lock: int, stop: threading.Event) -> CompletedProcess[str] | None:
    """Run the command; None if it took too long, as the parent answers too slowly. It ends with this: what outlives a
    thread that was stopped would hold the lock."""
    import subprocess  # noqa: PLC0415  once in a node's life

    deadline = time.monotonic() + _TRY
    given: str | None = token + "\n"
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, pass_fds=(lock,)) as process:
        try:
            while time.monotonic() < deadline:
                try:
                    out, err = process.communicate(given, timeout=_LOOK)
                    return subprocess.CompletedProcess(command, process.returncode, out, err)
                except subprocess.TimeoutExpired:
                    given = None  # what of it is not written yet goes on
                if stop.is_set():
                    raise Stopped
            return None
        finally:
            process.kill()


def publish_autoencoder(config: FleetConfig, ledger: Ledger, publisher: Publisher) -> None:
    """The cloud's part at its start: pin the autoencoder, sign it, and say what the federation agreed on. Raises
    ConfigError for another one than the embeddings here were made by."""
    if config.autoencoder is None or config.autoencoder.path is None:
        raise ConfigError("autoencoder.path: this key is missing; a cloud needs it")
    content = autoencoders.dumps(autoencoders.load(config.path(config.autoencoder.path), config.autoencoder.digest))
    _check_encoded(config, ledger, hashlib.sha256(content).hexdigest())
    found = publisher.shelf.find(AUTOENCODER)
    if found is None or publisher.shelf.content(found) != content:
        found = publisher.put(AUTOENCODER, content, version=publisher.next_version(AUTOENCODER))
    publisher.sign_again()  # a renewal may have been cut off before it came to that
    mode, before = config.rounds.mode, ledger.get(TERMS) or {}
    base = next_base(before.get("mode"), mode, int(before.get("base", 0)))
    ledger.put(
        TERMS,
        {
            "parent": None,
            "classes": config.classes,
            "mode": mode,
            "target": base + config.rounds.target if mode == "sync" and config.rounds.target else 0,
            "base": base,
            "autoencoder": found.digest.hex(),
        },
    )


def _check_encoded(config: FleetConfig, ledger: Ledger, digest: str) -> None:
    """Raise ConfigError if embeddings are here that another autoencoder made: a sample is encoded once, so they stay as
    they are, and this one would decode them to something else."""
    before = (ledger.get(TERMS) or {}).get("autoencoder")
    if before in (None, digest):
        return
    if any(ledger.head(link).digest != EMPTY.digest for link in links(ledger.db)):
        raise ConfigError(
            f"autoencoder.path: got {config.autoencoder and config.autoencoder.path}, digest {digest[:12]}; the "
            f"embeddings in {config.state} were made by {before[:12]}: name that one, or begin a new federation"
        )


def own_renewer(config: FleetConfig, publisher: Publisher, log: Log) -> Renewer:
    """The cloud's renewal: from its own signing key, and then its artefacts are signed again."""
    identity = config.state / "identity"

    def installed() -> None:
        log.info("artefacts_signed", count=publisher.sign_again())

    return Renewer(identity, by_own_issuer(identity, config.identity.certificate_days * DAY), installed, log)


def _limit_threads(config: FleetConfig) -> None:
    if config.training.engine == "torch":
        from fedagg_edge.learners.torch import set_threads  # noqa: PLC0415  torch, only where it trains

        set_threads(config.node.threads)
