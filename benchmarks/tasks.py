"""FedAgg on other tasks than images: activity from sensors, spoken digits, a medical table, text.

    python benchmarks/tasks.py --data DIR            all four, 3 seeds; DIR holds the packed sp_sw_har.npz and fsdd.npz
    python benchmarks/tasks.py                       the two that need no data by path
    python benchmarks/tasks.py --task text --seeds 1
    python benchmarks/tasks.py --quick               1 seed, 2 rounds, a short autoencoder
    python benchmarks/tasks.py --json                one list of rows, for machines

Every task is its file in `examples/` as a user would run it, with another seed: partition, weights and autoencoder are
drawn anew, the test set stays. `bridge-only` is the same run without distillation (docs/baselines.md).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fedagg_edge import load_config, simulate
from fedagg_edge.autoencoder import artefact
from fedagg_edge.autoencoder.quality import psnr
from fedagg_edge.bridge import Bridge, open_bridge
from fedagg_edge.config import SimulationConfig, parse_config
from fedagg_edge.datasets import Dataset
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.records import Tier
from fedagg_edge.simulation import build

ROOT = Path(__file__).parents[1]
VIEWS = ["raw", "bridge"]
COLUMNS = (
    "device alone",
    "device",
    "device, bridge-only",
    "edge",
    "cloud",
    "cloud, bridge view",
    "cloud, bridge-only",
    "cloud, bridge-only, bridge view",
    "ceiling",
)


@dataclass(frozen=True, slots=True)
class Task:
    """`view`: how its cloud's model looks at test samples, chosen on validation data. `prepared`: how
    tools/prepare_data.py makes its file, or nothing."""

    name: str
    view: str
    prepared: tuple[str, ...] = ()


TASKS = (
    Task("sensor", "raw", ("har",)),
    Task("speech", "raw", ("fsdd",)),
    Task("medical", "raw"),
    Task("text", "bridge"),
)


def prepared(task: Task, data: Path, folder: Path) -> Path:
    """The task's file of arrays, made by the tool that users call."""
    spec = importlib.util.spec_from_file_location("prepare_data", ROOT / "tools" / "prepare_data.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    path = folder / f"{task.name}.npz"
    stdout, sys.stdout = sys.stdout, sys.stderr  # the tool's own lines are not this program's result
    try:
        tool.main([*task.prepared, "--data", str(data), "--out", str(path)])
    finally:
        sys.stdout = stdout
    return path


def configured(task: Task, seed: int, data: Path | None, quick: bool, **changes: Any) -> SimulationConfig:
    """The example's configuration with another seed, and its data in `data`."""
    raw: dict[str, Any] = msgspec.to_builtins(load_config(ROOT / "examples" / f"{task.name}.toml"))
    base_dir = raw.pop("base_dir")
    if data is not None:
        raw["data"]["options"]["path"] = str(data)
    raw["evaluation"] |= {"every": raw["rounds"], "views": VIEWS}
    if quick:
        raw["rounds"] = 2
        raw["autoencoder"]["epochs"] = 4
    return parse_config({**raw, "seed": seed, **changes}, base_dir=base_dir)


def one(task: Task, seed: int, data: Path | None, quick: bool, folder: Path) -> dict[str, float]:
    """The figures of one seed."""
    began = time.monotonic()
    config = configured(task, seed, data, quick)
    set_threads(config.threads)  # the weights' last bits depend on it, as in a run
    dataset = build.read_data(config)
    trained = build.obtain_autoencoder(config, dataset)
    path = folder / f"{task.name}-{seed}.safetensors"
    artefact.save(trained, path)
    fedagg, bridge_only = (
        simulate(
            configured(task, seed, data, quick, method=method, autoencoder={"path": str(path)}, **more),
            out=folder / f"{task.name}-{method}-{seed}",
            dataset=dataset,
        )
        for method, more in (("fedagg", {}), ("bridge-only", {"evaluation": {"references": False, "views": VIEWS}}))
    )
    figures = {
        "device alone": fedagg.alone,
        "device": fedagg.final(Tier.DEVICE),
        "device, bridge-only": bridge_only.final(Tier.DEVICE) if Tier.DEVICE in bridge_only.tiers else None,
        "edge": fedagg.final(Tier.EDGE),
        "cloud": fedagg.final(Tier.CLOUD),
        "cloud, bridge view": float(fedagg.views_R["bridge"][-1]),
        "cloud, bridge-only": bridge_only.final(Tier.CLOUD),
        "cloud, bridge-only, bridge view": float(bridge_only.views_R["bridge"][-1]),
        "ceiling": fedagg.centralised,
    }
    found = {name: float("nan") if value is None else float(value) for name, value in figures.items()}
    found["chosen"] = found["cloud" if task.view == "raw" else "cloud, bridge view"]
    found["majority"] = float(np.bincount(dataset.test_y).max() / len(dataset.test_y))
    found |= reconstruction(open_bridge(trained), dataset)
    found["seconds"] = time.monotonic() - began
    cells = "  ".join(f"{name} {100 * found[name]:.1f}" for name in COLUMNS)
    print(f"{task.name} seed {seed}: {cells}  {found['psnr']:.1f} dB  {found['seconds']:.0f} s", file=sys.stderr)
    return found


def reconstruction(bridge: Bridge, dataset: Dataset) -> dict[str, float]:
    """Bridge samples of the test set in model scale: PSNR in dB, and the squared error as a share of the variance."""
    x_N = bridge.scale(dataset.test_x).astype(np.float64)
    code_NB = bridge.encode(x_N.astype(np.float32))
    bridge_N = bridge.decode(code_NB)
    error = float(np.square(bridge_N - x_N).sum() / np.square(x_N - x_N.mean(axis=0)).sum())
    return {"psnr": psnr(x_N, bridge_N), "error": error, "bytes": float(code_NB.shape[1])}


def line(task: Task, found: list[dict[str, float]]) -> str:
    """A task in one line of a Markdown table: means of the seeds, least and most where it matters."""
    values = {name: np.array([f[name] for f in found]) for name in found[0]}

    def spread(name: str) -> str:
        v = 100 * values[name]
        return f"{v.mean():.1f} ({v.min():.1f}-{v.max():.1f})" if np.isfinite(v).all() else ""

    cells = [task.name, f"{100 * values['majority'].mean():.1f}", *(spread(name) for name in COLUMNS)]
    cells += [
        f"{values['bytes'].mean():.0f}",
        f"{values['psnr'].mean():.1f} dB, {100 * values['error'].mean():.1f} %",
        f"{values['seconds'].mean():.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def rows(task: Task, found: list[dict[str, float]]) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    units = dict.fromkeys((*COLUMNS, "error"), "share") | {"psnr": "dB", "bytes": "B", "seconds": "s"}
    blank = {"goal": None, "holds": None, **about}
    out: list[dict[str, object]] = []
    for name, unit in units.items():
        value = float(np.mean([f[name] for f in found]))
        if np.isfinite(value):
            figure = f"{task.name}: {name}, mean of {len(found)} seeds"
            out.append({"figure": figure, "value": value, "unit": unit, **blank})
    lead = float(min(f["chosen"] - f["device alone"] for f in found))
    figure = f"{task.name}: cloud ({task.view} view) above the average device alone, least of {len(found)} seeds"
    out.append({"figure": figure, "value": lead, "unit": "share", "goal": 0, "holds": lead > 0, **about})
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=[t.name for t in TASKS], action="append", help="only this one; repeatable")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="folder of the packed data files")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out: list[dict[str, object]] = []
    table = [
        f"| task | majority | {' | '.join(COLUMNS)} | bytes | bridge samples | s |",
        f"|{'---|' * (len(COLUMNS) + 5)}",
    ]
    with tempfile.TemporaryDirectory() as name:
        for task in TASKS:
            if args.task and task.name not in args.task:
                continue
            if task.prepared and args.data is None:
                print(f"{task.name}: left out, it needs --data", file=sys.stderr)
                continue
            data = prepared(task, args.data, Path(name)) if task.prepared else None
            seeds = range(1 if args.quick else args.seeds)
            found = [one(task, seed, data, args.quick, Path(name)) for seed in seeds]
            out += rows(task, found)
            table.append(line(task, found))
    print(json.dumps(out, indent=1) if args.json else "\n".join(table))


if __name__ == "__main__":
    main()
