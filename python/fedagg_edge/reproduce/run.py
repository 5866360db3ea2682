"""Runs the cells of a table, each in its own folder with its own checkpoints, and keeps results and report up to date.

Whatever is finished is not run again; whatever was killed goes on. Several processes may work on the same table: each
cell is claimed by a lock that its process's end releases.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fedagg_edge import __version__
from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.config import SimulationConfig
from fedagg_edge.datasets import Dataset
from fedagg_edge.errors import ConfigError, DataError, StateInUse
from fedagg_edge.files import write_atomic
from fedagg_edge.reproduce import arrays, report
from fedagg_edge.reproduce import rows as results
from fedagg_edge.reproduce.cells import Cell, config_of
from fedagg_edge.reproduce.rows import Row, rows_of
from fedagg_edge.reproduce.tables import AUTOENCODERS, PRESETS
from fedagg_edge.simulation import build
from fedagg_edge.simulation.folder import RunFolder
from fedagg_edge.simulation.progress import Progress
from fedagg_edge.simulation.run import simulate
from fedagg_edge.tree import plant

__all__ = ["Bench", "commit_of", "finished", "obtain_autoencoder", "publish", "run_cell", "run_cells"]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a table is worked on: the `data` file, the folder `runs` of cells and autoencoders, the folder `out` of
    results and report. `keep`: leave the checkpoints of finished cells. `workers`: a simulation's. `progress` makes one
    display a cell. `commit`: of the code that this process has loaded, so found out once: its files may change while it
    runs."""

    data: Path
    runs: Path
    out: Path
    progress: Callable[[], Progress]
    commit: str
    keep: bool = False
    workers: int = 1


def run_cells(cells: Sequence[Cell], bench: Bench) -> list[Cell]:
    """Run what is not finished; after each cell write results and report anew. Returns the cells that another process
    is at.

    Raises FedaggError. A KeyboardInterrupt leaves each cell at its last checkpoint.
    """
    elsewhere = []
    for number, cell in enumerate(cells, 1):
        with _locked(bench.runs / f"{cell.key}.lock") as mine:  # the lock inside its folder is the simulation's
            if not mine:
                elsewhere.append(cell)
                continue
            try:
                found = run_cell(cell, bench, f"{number}/{len(cells)}  {cell.key}")
            except StateInUse:  # by `fedagg simulate` in the cell's folder
                elsewhere.append(cell)
                continue
        with _locked(bench.runs / "lock", wait=True):  # or two processes that publish at once lose the rows of one
            publish(found, bench.out)
    return elsewhere


def run_cell(cell: Cell, bench: Bench, title: str) -> list[Row]:
    """The rows of one cell, which is run, or goes on, if it is not finished.

    Raises ConfigError if its folder holds a run with other settings, which is never mixed with this one.
    """
    folder = RunFolder(bench.runs / cell.key)
    autoencoder = obtain_autoencoder(cell, bench)
    config = config_of(cell, str(bench.data.absolute()), str(autoencoder.absolute()))
    config = msgspec.structs.replace(config, workers=bench.workers)  # no part of the result
    started = folder.config.exists()
    if started and (differing := folder.differing(config)):
        raise ConfigError(
            f"{folder.root}: holds a run with another {', '.join(differing)}; give --data and --runs as then, or "
            "remove that folder to run it anew"
        )
    metrics = finished(folder, cell.scale.rounds)
    if metrics is None:
        dataset: Dataset = build.read_data(config)
        facts = _note(folder, dataset, bench.commit)
        progress = bench.progress()
        progress.stage(title)
        simulate(config, out=folder.root, resume=started, dataset=dataset, progress=progress)
        metrics = finished(folder, cell.scale.rounds) or []
    else:
        facts = json.loads(_facts(folder).read_bytes())
    if not bench.keep:
        folder.drop_checkpoints()
    sizes = (facts["train_rows"], facts["test_rows"])
    return rows_of(cell, metrics, _tiers(config), sizes, ", ".join(facts["commits"]))


def publish(found: Sequence[Row], out: Path) -> None:
    """Put rows into the folder's results.json and write its report from all that is there."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    every = results.merge(results.read(path), found)
    results.write(path, every)
    pictures: dict[report.Section, str] = {}
    try:
        from fedagg_edge.reproduce.plots import draw  # noqa: PLC0415  # matplotlib, where it is installed
    except ImportError:
        pass
    else:
        pictures = draw(every, out)
    notes = out / "results-notes.md"
    text = notes.read_text(encoding="utf-8") if notes.exists() else ""
    write_atomic(out / "results.md", report.render(every, pictures, text).encode())


def finished(folder: RunFolder, rounds: int) -> list[dict[str, Any]] | None:
    """The metrics of all rounds if the run has finished; a line that was cut off by a kill counts as not there."""
    if not folder.results.exists():
        return None
    lines = folder.metrics.read_bytes().splitlines()
    return [json.loads(line) for line in lines[:rounds]] if len(lines) >= rounds else None


def obtain_autoencoder(cell: Cell, bench: Bench) -> Path:
    """The file in `runs/autoencoders` of the data set's autoencoder for the cell's preset; trained on `public_x` if
    there is none.

    Raises DataError if there is nothing to train it on.
    """
    recipe = PRESETS[cell.variant.preset].autoencoder
    name = f"{cell.dataset}-{recipe}.safetensors"
    path = bench.runs / "autoencoders" / name
    if path.exists():
        return path
    try:
        open_x = arrays.open_samples(str(bench.data))
    except DataError as e:
        if not bench.data.is_file():
            raise
        raise DataError(f"{e}; add open data as public_x, or put an autoencoder at {path}") from None
    from fedagg_edge.autoencoder.train import train  # noqa: PLC0415  # torch loads when it is wanted

    progress = bench.progress()
    progress.stage(f"training the autoencoder {name} on {len(open_x)} open samples")
    made = train(
        open_x,
        trained_on=f"public_x of {bench.data.name}",
        seed=0,
        progress=lambda p: progress.part(p.epoch, p.epochs, "epochs"),
        **AUTOENCODERS[recipe].arguments,
    )
    progress.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    artefacts.save(made, path)
    return path


def commit_of() -> str:
    """The commit of the code that runs, with "+" if its files were changed since; the version outside a repository."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        if not git("ls-files", "--error-unmatch", Path(__file__).name):
            return __version__
        return git("rev-parse", "--short=10", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno", ":/python") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return __version__


def _facts(folder: RunFolder) -> Path:
    return folder.root / "cell.json"


def _note(folder: RunFolder, dataset: Dataset, commit: str) -> dict[str, Any]:
    """Write beside the run what its metrics do not say: the commits that made it, and how much data it has."""
    path = _facts(folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    before: list[str] = json.loads(path.read_bytes())["commits"] if path.exists() and folder.config.exists() else []
    commits = before if commit in before else [*before, commit]
    facts = {"commits": commits, "train_rows": len(dataset.train_y), "test_rows": len(dataset.test_y)}
    write_atomic(path, json.dumps(facts).encode())
    return facts


def _tiers(config: SimulationConfig) -> dict[str, str]:
    return {place.id: place.tier.value for place in plant(config.tree, config.seed).places.values()}


@contextmanager
def _locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process has the lock to itself; the system releases it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
