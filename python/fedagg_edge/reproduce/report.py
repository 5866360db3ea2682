"""The report: each table's rows beside the paper's own figures. Pure: rows in, Markdown out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedagg_edge.reproduce.cells import shared
from fedagg_edge.reproduce.rows import Row
from fedagg_edge.reproduce.tables import (
    AUTOENCODERS,
    BFLOAT16,
    DATASETS,
    METHODS,
    PRESETS,
    TABLES,
    TUNED,
    Setting,
    Table,
    Tuned,
    Variant,
)

__all__ = ["Section", "Series", "bought", "first_round", "lead", "render", "sections", "series_of"]

VIEWS = ("raw", "bridge", "both")

BASELINES = ("hierfavg", "demlearn", "fedgkt", "feddkc")
"""What the paper's Table II compares with."""


@dataclass(frozen=True, slots=True)
class Section:
    """One setting of a data set at one size: what one table and one picture of the report shows."""

    dataset: str
    setting: Setting
    size: tuple[Any, ...]

    @property
    def slug(self) -> str:
        """A name for its files."""
        share, rounds, test, validation = self.size
        held = f"-v{validation}" if validation else ""
        return f"{self.dataset}-{self.setting.name.replace('/', '-')}-x{share:g}-t{test}-r{rounds}{held}"


@dataclass(frozen=True, slots=True)
class Series:
    """All that was measured of one method and preset in a section: seed -> its rows."""

    variant: Variant
    rows_of: Mapping[int, tuple[Row, ...]]

    def curve(self, tier: str, view: str = "raw") -> dict[int, dict[int, float]]:
        """Seed -> round -> accuracy of a tier in a view; empty if it has none."""
        found = {
            seed: {r.round: r.accuracy for r in rows if (r.tier, r.view) == (tier, view)}
            for seed, rows in self.rows_of.items()
        }
        return {seed: curve for seed, curve in found.items() if curve}

    def final(self, tier: str, view: str = "raw") -> dict[int, float]:
        """Seed -> accuracy after the last round."""
        return {seed: curve[max(curve)] for seed, curve in self.curve(tier, view).items()}

    def chosen(self) -> str | None:
        """The cloud's view that is best on validation samples after the last round, on average over seeds; None where
        a seed has none."""
        found: dict[str, list[float]] = {}
        for rows in self.rows_of.values():
            last = max(r.round for r in rows)
            for row in rows:
                if row.round == last and row.validation is not None:
                    found.setdefault(row.view, []).append(row.validation)
        whole = {view: _mean(values) for view, values in found.items() if len(values) == len(self.rows_of)}
        return max(whole, key=lambda view: whole[view]) if whole else None

    def cost(self, field: str) -> list[float]:
        """The last value of `seconds` or `bytes`, one a seed."""
        return [float(max(getattr(r, field) for r in rows)) for rows in self.rows_of.values()]


def sections(rows: Iterable[Row]) -> list[Section]:
    """Every setting and size of which there is a row, in order."""
    found = {Section(r.dataset, Setting(r.devices, r.alpha, r.cloud, r.beta), r.size): None for r in rows}
    return sorted(found, key=lambda s: (s.dataset, s.setting.name, repr(s.size)))


def series_of(rows: Sequence[Row], section: Section) -> list[Series]:
    """The section's methods in the report's order, those included that share their cells with other settings."""
    found: dict[Variant, dict[int, list[Row]]] = {}
    for row in rows:
        variant = Variant(row.method, row.preset)
        s = shared(section.setting, variant)
        wanted = (section.dataset, s.devices, s.alpha, s.cloud, s.beta, *section.size)
        if row.group == wanted:
            found.setdefault(variant, {}).setdefault(row.seed, []).append(row)
    methods, presets = list(METHODS), list(PRESETS)
    order = sorted(found, key=lambda v: (methods.index(v.method), presets.index(v.preset)))
    return [Series(v, {seed: tuple(each) for seed, each in sorted(found[v].items())}) for v in order]


def bought(series: Sequence[Series], preset: str, tier: str, view: str) -> list[float]:
    """What distillation buys: FedAgg's final accuracy less bridge-only's of the same preset, a value a common seed."""
    final = {s.variant: s.final(tier, view) for s in series}
    ours, other = (final.get(Variant(m, preset), {}) for m in ("fedagg", "bridge-only"))
    return [ours[seed] - other[seed] for seed in sorted({*ours} & {*other})]


def lead(series: Sequence[Series], ours: Series, view: str, *, equal_bytes: bool = False) -> tuple[str, float] | None:
    """The baseline of the paper, in any preset, that `ours` in `view` leads least, and by how much: the mean over
    common seeds.

    With `equal_bytes` a baseline has the accuracy of its last round that had moved no more bytes than `ours` in all,
    and takes no part if its first round moved more. None if there is no baseline, or `ours` has no such view.
    """
    own = ours.final("cloud", view)
    limit = min(ours.cost("bytes")) if equal_bytes else math.inf
    found: list[tuple[float, str]] = []
    for each in series:
        if each.variant.method not in BASELINES:
            continue
        reached = {seed: _within(rows, limit) for seed, rows in each.rows_of.items()}
        points = [own[seed] - a for seed, a in reached.items() if a is not None and seed in own]
        if points:
            preset = "" if each.variant.preset == "default" else f" ({each.variant.preset})"
            found.append((_mean(points), METHODS[each.variant.method] + preset))
    return min(found)[::-1] if found else None


def _within(rows: Sequence[Row], limit: float) -> float | None:
    """The cloud's accuracy after the last round that had moved at most `limit` bytes; None before the first."""
    known = [(r.round, r.accuracy) for r in rows if (r.tier, r.view) == ("cloud", "raw") and r.bytes <= limit]
    return max(known)[1] if known else None


def first_round(curve: Mapping[int, float], threshold: float) -> int | None:
    """The first round, from 0, whose accuracy is `threshold` % or more; None if there is none."""
    return min((number for number, a in curve.items() if 100 * a >= threshold), default=None)


def render(rows: Sequence[Row], pictures: Mapping[Section, str], notes: str = "") -> str:
    """The report. `pictures`: paths, as seen from the report, by section; `notes`: Markdown that goes on top."""
    parts = ["# The paper's tables, reproduced", _HEAD]
    if notes.strip():
        parts.append(notes.strip())
    shown = sections(rows)
    for table in TABLES.values():
        own = [s for s in shown if s.dataset == table.dataset and s.setting in table.settings]
        if own:
            parts.append(f"## Table {table.number}: {table.title}")
            parts += [_section(table, s, rows, pictures) for s in own]
    parts += ["## How the presets train", _presets(sorted({r.preset for r in rows}))]
    return "\n\n".join(parts) + "\n"


_HEAD = """Written by `fedagg reproduce` from results.json. Wu et al., INFOCOM 2024, arXiv 2312.11489; "paper" is its
own figure for the setting, after convergence or 500 rounds on all devices and data. Accuracy in %, on real test images,
after the last round; with several seeds the mean and, in brackets, the least and the greatest. Edges and devices:
their mean; "own mix": test images count as their classes do among a device's own. Rounds are counted from 0, one pass
over a device's samples a round. Minutes are training's wall clock on a machine that did other work too; MB are payload
over all links.

- The cloud's model sees test images `raw`, as `bridge` samples dec(enc(x)), or the two predictions averaged (`both`).
- `bridge-only` is FedAgg without distillation: its cloud is the centralised training on the same bridge samples, with
  labels. What FedAgg has beyond it, distillation bought; under a tuned preset the two also differ in rates and batches.
- `centralised` trains the cloud's model on all real images in one place: the ceiling of all, not a protocol."""


def _section(table: Table, section: Section, rows: Sequence[Row], pictures: Mapping[Section, str]) -> str:
    series = series_of(rows, section)
    some = next(iter(series[0].rows_of.values()))[0]
    lines = [f"### {section.setting.name}", "", _ran(table, section, some), ""]
    if table.thresholds:
        lines += _first_rounds(table, section, series)
    else:
        lines += _accuracies(table, section, series)
        lines += _lead_lines(series)
        lines += _device_lines(series)
        lines += _bought_lines(series)
        if section in pictures:
            lines += ["", f"![accuracy by round, a panel a tier]({pictures[section]})"]
    return "\n".join(lines)


def _ran(table: Table, section: Section, row: Row) -> str:
    k, side = section.setting.devices, round(section.setting.devices**0.5)
    return (
        f"Ran: {DATASETS[table.dataset].title}, {row.ran_devices} devices below {row.ran_edges} edges (paper: {k} "
        f"below {side}), {row.train_rows:,} training and {row.test_rows:,} test images, {row.rounds} rounds"
        f"{f'; {row.validation_rows:,} validation images, which no device has' if row.validation_rows else ''}."
    )


def _accuracies(table: Table, section: Section, series: Sequence[Series]) -> list[str]:
    lines = [
        "| method | preset | seeds | cloud raw | bridge | both | edges | devices | own mix | minutes | MB | paper |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in series:
        cells = [METHODS[each.variant.method], each.variant.preset, str(len(each.rows_of))]
        cells += [_percent(each.final("cloud", view).values()) for view in VIEWS]
        cells += [_percent(each.final(*of).values()) for of in (("edge", "raw"), ("device", "raw"), ("device", "own"))]
        cells += [f"{_mean(each.cost('seconds')) / 60:.1f}", f"{_mean(each.cost('bytes')) / 1e6:.1f}"]
        figure = _figure(table, section.setting, each.variant.method)
        lines.append(_line([*cells, "" if figure is None else f"{figure:.2f}"]))
    return lines


def _lead_lines(series: Sequence[Series]) -> list[str]:
    """FedAgg beside the best baseline and the ceilings, a line a preset, on the seeds that both have."""
    raw = {s.variant: s.final("cloud") for s in series}
    lines = []
    for ours in (s for s in series if s.variant.method == "fedagg" and s.final("cloud")):
        chosen = ours.chosen()
        view = chosen or max(VIEWS, key=lambda v: _mean([*ours.final("cloud", v).values()] or [0.0]))
        own = ours.final("cloud", view)
        how = "chosen on validation images" if chosen else "that is best on these test images"
        parts = [f"{100 * _mean([*own.values()]):.1f} in the view {how}, {view}"]
        for what, equal in (("at equal rounds", False), ("at equal bytes", True)):
            best = lead(series, ours, view, equal_bytes=equal)
            if best is not None:
                parts.append(f"{100 * best[1]:+.1f} points on the best baseline {what}, {best[0]}")
        for name in ("bridge-only", "centralised"):
            bound = raw.get(Variant(name, ours.variant.preset), {})
            if name == "centralised":  # what it learns from has no preset
                bound = bound or raw.get(Variant(name), {})
            seeds = sorted({*own} & {*bound})
            if seeds:
                share = _mean([own[s] for s in seeds]) / _mean([bound[s] for s in seeds])
                parts.append(f"{100 * share:.0f} % of {name}'s raw accuracy")
        lines.append(f"- FedAgg, {ours.variant.preset}: {'; '.join(parts)}")
    return ["", *lines, "", "Differences and shares are over the seeds that both have."] if lines else []


def _device_lines(series: Sequence[Series]) -> list[str]:
    """How far FedAgg's devices are above devices alone, a line a preset; alone in the same preset if that was run,
    else in `default`."""
    of = {s.variant: s for s in series}
    lines = []
    for variant, ours in of.items():
        other = of.get(Variant("alone", variant.preset)) or of.get(Variant("alone"))
        if variant.method != "fedagg" or other is None:
            continue
        parts = []
        for view, what in (("raw", "the common test set"), ("own", "each one's own mix of classes")):
            mine, alone = ours.final("device", view), other.final("device", view)
            points = [mine[seed] - alone[seed] for seed in sorted({*mine} & {*alone})]
            if points:
                parts.append(f"{100 * _mean(points):+.1f} on {what}")
        if parts:
            lines.append(f"- {variant.preset}, beside alone's {other.variant.preset}: {', '.join(parts)}")
    return ["", "FedAgg's devices above devices alone, in points:", "", *lines] if lines else []


def _bought_lines(series: Sequence[Series]) -> list[str]:
    lines = []
    for preset in PRESETS:
        for tier, views in (("cloud", VIEWS), ("edge", ("raw",)), ("device", ("raw",))):
            for view in views:
                points = bought(series, preset, tier, view)
                if points:
                    values = ", ".join(f"{100 * p:+.1f}" for p in points)
                    lines.append(f"- {tier}, {view}, preset {preset}: {values}")
    return ["", "What distillation buys over bridge-only, in points, seed by seed:", "", *lines] if lines else []


def _first_rounds(table: Table, section: Section, series: Sequence[Series]) -> list[str]:
    head = [f"{what}{t:g} %" for what in ("", "paper: ") for t in table.thresholds]
    lines = [_line(["method", "preset", "view", *head]), "|---" * (3 + len(head)) + "|"]
    for each in series:
        for view in VIEWS:
            curves = each.curve("cloud", view)
            if not curves:
                continue
            cells = [METHODS[each.variant.method], each.variant.preset, view]
            cells += [", ".join(_number(first_round(c, t)) for c in curves.values()) for t in table.thresholds]
            figure = _figure(table, section.setting, each.variant.method) or ()
            lines.append(_line([*cells, *(map(_number, figure) if figure else [""] * len(table.thresholds))]))
    return [*lines, "", "`-`: not within the rounds that were run; several seeds, one figure each."]


def _figure(table: Table, setting: Setting, method: str) -> Any:
    """The paper's own figure for a row, None if it has none."""
    figures = table.figures.get(method)
    return None if figures is None else figures[table.settings.index(setting)]


def _presets(names: Sequence[str]) -> str:
    lines = ["Keys of the configuration, see docs/config.md; what is not named has its default.", ""]
    for name in names:
        preset = PRESETS[name]
        keys = ", ".join(f"{k} {v}" for k, v in AUTOENCODERS[preset.autoencoder].arguments.items())
        own = [f"{METHODS[m]} {_tuned(t)}" for m, t in TUNED.items()] if preset.tuned else []
        if preset.keys == PRESETS[name.removesuffix(BFLOAT16)].keys:
            how = f"as `default`, but {'; '.join(own)}" if own else _keys(preset.keys)
        else:
            how = f"as `{name.removesuffix(BFLOAT16)}`, edges and cloud in bfloat16"
        lines.append(f"- `{name}`: {how}; autoencoder: {keys}")
    return "\n".join(lines)


def _tuned(tuned: Tuned) -> str:
    parts = [] if tuned.rate == 1 else [f"learning rates x {tuned.rate:.3g}"]
    devices = {f"device.{key}": value for key, value in tuned.device.items()}
    return ", ".join([*parts, *(f"`{k}` {v}" for k, v in {**tuned.options, **tuned.training, **devices}.items())])


def _keys(table: Mapping[str, Any], prefix: str = "") -> str:
    found = [_keys(v, f"{prefix}{k}.") if isinstance(v, Mapping) else f"`{prefix}{k}` {v}" for k, v in table.items()]
    return ", ".join(found)


def _percent(shares: Iterable[float]) -> str:
    values = [100 * s for s in shares]
    if not values:
        return ""
    text = f"{_mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ({min(values):.1f}-{max(values):.1f})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
