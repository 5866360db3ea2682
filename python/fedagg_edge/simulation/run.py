"""`simulate`: one whole experiment, from a configuration to results, resumable at every round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedagg_edge import baselines, checkpoint
from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.config import SimulationConfig, load_config, parse_config
from fedagg_edge.errors import CheckpointError, ConfigError
from fedagg_edge.learners.base import LearnerFactory
from fedagg_edge.lock import StateLock
from fedagg_edge.simulation import build, state
from fedagg_edge.simulation.experiment import Experiment
from fedagg_edge.simulation.folder import RunFolder
from fedagg_edge.simulation.progress import Progress, Silent
from fedagg_edge.simulation.results import SimulationResults

if TYPE_CHECKING:
    from fedagg_edge.autoencoder.artefact import Artefact
    from fedagg_edge.datasets import Dataset
    from fedagg_edge.partition import PartitionRule

__all__ = ["Resume", "simulate"]


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on from the last checkpoint, or from that of round `round`."""

    round: int | None = None


def simulate(
    config: SimulationConfig | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    resume: Resume | bool = False,
    overwrite: bool = False,
    dataset: Dataset | None = None,
    partition: PartitionRule | None = None,
    models: Mapping[str, Callable[..., Any]] | None = None,
    learners: Mapping[str, LearnerFactory] | None = None,
    progress: Progress | None = None,
) -> SimulationResults:
    """Train the configured tree by the configured method and return its results; all is also written to `out`.

    `config`: a path to TOML, a mapping in its shape, or a `SimulationConfig`. `out`: the run's folder (default
    ``runs/<name>``, for a baseline ``runs/<name>-<method>``). Parts given from Python take the place of configured
    ones: `dataset`, the `partition` rule, `models` (name in the tree -> function building a torch module), `learners`
    (name -> `LearnerFactory`).

    Raises ConfigError, DataError, ArtefactError, LearnerError or CheckpointError, each saying what to do, and
    StateInUse if another process runs in `out`. A KeyboardInterrupt leaves the last checkpoint whole.
    """
    settings = _as_config(config)
    _limit_threads(settings.threads)
    setup = _Setup(
        config=settings,
        folder=RunFolder(Path(out) if out is not None else Path("runs") / _run_name(settings)),
        data=build.read_data(settings) if dataset is None else dataset,
        factories=_factories(models, learners),
        rule=partition,
        progress=progress or Silent(),
    )
    try:
        if resume:
            setup.folder.expect_run()  # before the lock, which would make the folder
        with StateLock(setup.folder.root):
            return _run(setup, resume, overwrite=overwrite)
    finally:
        setup.progress.close()


@dataclass(frozen=True, slots=True)
class _Setup:
    """What a run is made from."""

    config: SimulationConfig
    folder: RunFolder
    data: Dataset
    factories: Mapping[str, LearnerFactory]
    rule: PartitionRule | None
    progress: Progress


def _run_name(settings: SimulationConfig) -> str:
    return settings.name if settings.method == "fedagg" else f"{settings.name}-{settings.method}"


def _as_config(config: SimulationConfig | Mapping[str, Any] | str | Path) -> SimulationConfig:
    if isinstance(config, SimulationConfig):
        return config
    return parse_config(config) if isinstance(config, Mapping) else load_config(config)


def _factories(
    models: Mapping[str, Callable[..., Any]] | None, learners: Mapping[str, LearnerFactory] | None
) -> dict[str, LearnerFactory]:
    factories = dict(learners or {})
    if models:
        from fedagg_edge.learners.torch import module_factory  # noqa: PLC0415  # torch loads when it is wanted

        factories |= {name: module_factory(function) for name, function in models.items()}
    return factories


def _limit_threads(threads: int) -> None:
    """A fixed number of threads, or the last bits of a sum would depend on the machine's core count."""
    try:
        from fedagg_edge.learners.torch import set_threads  # noqa: PLC0415  # torch loads when it is wanted
    except ModuleNotFoundError as e:
        if e.name != "torch":
            raise
        raise ConfigError("simulate needs torch: pip install 'fedagg-edge[sim]'") from None
    set_threads(threads)


def _run(setup: _Setup, resume: Resume | bool, *, overwrite: bool) -> SimulationResults:
    if resume:
        experiment = _resume(setup, resume.round if isinstance(resume, Resume) else None)
    else:
        setup.folder.start(setup.config, overwrite=overwrite)
        experiment = _begin(setup)
    experiment.rounds(setup.progress)
    return experiment.finish(setup.progress)


def _begin(setup: _Setup) -> Experiment:
    autoencoder = build.obtain_autoencoder(setup.config, setup.data, setup.progress)
    digest = artefacts.save(autoencoder, setup.folder.autoencoder)
    pinned = {"data": build.data_digest(setup.data), "autoencoder": digest}
    return _assemble(setup, autoencoder, pinned, next_round=0)


def _resume(setup: _Setup, wanted: int | None) -> Experiment:
    folder, progress = setup.folder, setup.progress
    folder.resume(setup.config)
    if wanted is None and not checkpoint.list_rounds(folder.checkpoints):
        progress.stage("no checkpoint yet: starting from the beginning")
        folder.read_metrics(0)
        return _begin(setup)
    saved = checkpoint.load(folder.checkpoints, wanted)
    if saved.round >= setup.config.rounds:
        raise ConfigError(
            f"rounds: got {setup.config.rounds}, but the checkpoint in {folder.root} is of {saved.round + 1} finished "
            f"rounds; ask for {saved.round + 1} or more"
        )
    pinned = {k: saved.meta[k] for k in ("data", "autoencoder")}
    if pinned["data"] != build.data_digest(setup.data):
        raise CheckpointError(
            f"{folder.root}: the data is not what this run was started with; restore it or start anew"
        )
    autoencoder = artefacts.load(folder.autoencoder, pinned["autoencoder"])
    experiment = _assemble(setup, autoencoder, pinned, next_round=saved.round + 1)
    experiment.method.restore(saved.tensors, saved.meta["nodes"])
    experiment.traffic = state.restore_traffic(saved.meta["traffic"])
    experiment.metrics_length = saved.meta["metrics_length"]
    checkpoint.drop_after(folder.checkpoints, saved.round)  # they count on metrics that are cut off next
    experiment.rows = folder.read_metrics(experiment.metrics_length)
    progress.stage(f"resumed from the checkpoint of round {saved.round}: {saved.round + 1} rounds are done")
    return experiment


def _assemble(setup: _Setup, autoencoder: Artefact, pinned: dict[str, str], *, next_round: int) -> Experiment:
    kind = baselines.find_method(setup.config.method)
    world = build.build_world(
        setup.config, setup.data, autoencoder, setup.factories, setup.rule, with_nodes=kind.needs_nodes
    )
    method = baselines.make_method(kind, world, setup.factories)
    experiment = Experiment(setup.folder, world, method, setup.factories, pinned, next_round)
    experiment.init()
    return experiment
