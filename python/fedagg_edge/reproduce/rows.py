"""Results as rows, one a figure: the only thing that a report is made of. Pure but for reading and writing the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fedagg_edge.errors import DataError
from fedagg_edge.files import write_atomic
from fedagg_edge.reproduce.cells import Cell

__all__ = ["Row", "merge", "read", "rows_of", "write"]

SCHEMA = 1


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The accuracy (0 to 1) of one `tier` after `round` (from 0) of one cell.

    `devices`, `alpha`, `cloud`, `beta` name the paper's setting; `ran_devices`, `ran_edges`, `train_rows`, `test_rows`
    and `rounds` are what was run of it. The cloud has a row a `view` ("raw", "bridge", "both"), edges and devices
    their mean in the view "raw"; devices also one in "own", where test samples count as their classes do among each
    device's own. `validation`: the view's accuracy on `validation_rows` samples that no device had (None and 0
    without). `seconds`: of training, wall clock, up to and including the round. `bytes`: payload on all links so far.
    """

    dataset: str
    devices: int
    alpha: float
    cloud: str
    beta: float | None
    method: str
    preset: str
    seed: int
    rounds: int
    scale: float
    ran_devices: int
    ran_edges: int
    train_rows: int
    test_rows: int
    tier: str
    view: str
    round: int
    accuracy: float
    seconds: float
    bytes: int
    commit: str
    validation: float | None = None
    validation_rows: int = 0

    @property
    def group(self) -> tuple[Any, ...]:
        """What must be equal for two rows to stand in one table: setting and size, but for method, preset and seed."""
        return (self.dataset, self.devices, self.alpha, self.cloud, self.beta, *self.size)

    @property
    def size(self) -> tuple[Any, ...]:
        """How much of the paper's setting was run."""
        return (self.scale, self.rounds, self.test_rows, self.validation_rows)

    @property
    def run(self) -> tuple[Any, ...]:
        """What names the run that it is of."""
        return (*self.group, self.method, self.preset, self.seed)


def rows_of(
    cell: Cell, metrics: Sequence[Mapping[str, Any]], tiers: Mapping[str, str], sizes: tuple[int, int], commit: str
) -> list[Row]:
    """A cell's rows from its run's metrics; `tiers` gives each node's tier, `sizes` are its training and test rows."""
    found: list[Row] = []
    seconds = 0.0
    for each in metrics:
        seconds += each["seconds"]
        validation = each.get("validation", {})
        for (tier, view), accuracy in _accuracies(each, tiers).items():
            chosen_by = validation.get(view) if tier == "cloud" else None
            found.append(
                Row(
                    dataset=cell.dataset,
                    devices=cell.setting.devices,
                    alpha=cell.setting.alpha,
                    cloud=cell.setting.cloud,
                    beta=cell.setting.beta,
                    method=cell.variant.method,
                    preset=cell.variant.preset,
                    seed=cell.seed,
                    rounds=cell.scale.rounds,
                    scale=cell.scale.share,
                    ran_devices=cell.edges**2,
                    ran_edges=cell.edges,
                    train_rows=sizes[0],
                    test_rows=sizes[1],
                    tier=tier,
                    view=view,
                    round=each["round"],
                    accuracy=round(accuracy, 6),
                    seconds=round(seconds, 1),
                    bytes=each["bytes"],
                    commit=commit,
                    validation=None if chosen_by is None else round(chosen_by, 6),
                    validation_rows=cell.scale.validation,
                )
            )
    return found


def _accuracies(metrics: Mapping[str, Any], tiers: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """(tier, view) -> accuracy; a tier's is the mean of its evaluated nodes."""
    scores = metrics["accuracy"] or {}
    found: dict[tuple[str, str], float] = {}
    for tier in ("cloud", "edge", "device"):
        own = [a for node, a in scores.items() if tiers[node] == tier]
        if own:
            found[(tier, "raw")] = sum(own) / len(own)
    mixes = [*metrics.get("own", {}).values()]
    if mixes:
        found[("device", "own")] = sum(mixes) / len(mixes)
    views = metrics.get("views", {})
    return found | {("cloud", view): a for view, a in views.items()}


def merge(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """All rows, those of a run that is in `new` taken from there; ordered by setting, method, seed and round."""
    new = list(new)
    replaced = {row.run for row in new}
    kept = [row for row in old if row.run not in replaced]
    return sorted([*kept, *new], key=lambda r: (repr(r.run), r.round, r.tier, r.view))


def read(path: Path) -> list[Row]:
    """The rows of a results.json, none if there is no such file; raise DataError if it is another kind of file."""
    if not path.exists():
        return []
    try:
        table = msgspec.json.decode(path.read_bytes())
        if not isinstance(table, dict) or table.get("schema") != SCHEMA:
            raise DataError(f"{path}: not the results of `fedagg reproduce`, or of another version; write elsewhere")
        return msgspec.convert(table["rows"], list[Row])
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError) as e:
        raise DataError(f"{path}: damaged: {e}; remove it and run the command again: finished runs are kept") from None


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write rows, one a line, whole or not at all."""
    lines = ",\n".join(json.dumps(msgspec.to_builtins(row)) for row in rows)
    write_atomic(path, f'{{"schema": {SCHEMA}, "rows": [\n{lines}\n]}}\n'.encode())
