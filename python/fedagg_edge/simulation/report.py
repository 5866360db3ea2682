"""The table at a run's end, as text and as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedagg_edge.records import Tier
from fedagg_edge.simulation.results import SimulationResults

__all__ = ["as_json", "format_bytes", "table"]


_VIEWS = {"raw": "raw view", "bridge": "bridge view dec(enc(x))", "both": "both views averaged"}


def table(results: SimulationResults) -> str:
    """The results in a few lines that a person reads."""
    rows = [("test accuracy", "")]
    if results.alone is not None:
        rows.append(("  average device, trained alone", _percent(results.alone)))
    for tier, label in ((Tier.DEVICE, "average device"), (Tier.EDGE, "average edge"), (Tier.CLOUD, "cloud")):
        if tier in results.tiers:
            rows.append((f"  {label}, {results.title}", _percent(results.final(tier))))
    for view, accuracy_R in results.views_R.items():
        chosen = " (best on validation samples)" if view == results.chosen_view else ""
        rows.append((f"  cloud, {results.title}, {_VIEWS[view]}{chosen}", _percent(float(accuracy_R[-1]))))
    if results.centralised is not None:
        rows.append(("  cloud's model on all private data (bound)", _percent(results.centralised)))
    rows += _own_mix(results)
    if results.gap_closed is not None:
        rows.append(("gap from device alone to bound, closed by", _percent(results.gap_closed)))
    rows.append(("bytes moved per device, on average", format_bytes(results.bytes_per_device)))
    rows.append(("bytes moved in all, over all links", format_bytes(results.bytes_total)))
    rows.append(("rounds", str(int(results.round_R[-1]) + 1)))
    width = max(len(left) for left, _ in rows)
    lines = [f"{left:<{width}}  {right:>9}".rstrip() for left, right in rows]
    return "\n".join(lines)


def _own_mix(results: SimulationResults) -> list[tuple[str, str]]:
    if results.final_own is None:
        return []
    rows = [("the same, a device's on its own mix of classes", "")]
    if results.alone_own is not None:
        rows.append(("  average device, trained alone", _percent(results.alone_own)))
    return [*rows, (f"  average device, {results.title}", _percent(results.final_own))]


def as_json(results: SimulationResults) -> dict[str, Any]:
    """The results as plain types; NaN never appears."""
    views = {v: np.round(a_R, 6).tolist() for v, a_R in results.views_R.items()}
    return {
        "schema": 1,
        "folder": str(results.folder),
        "method": results.method,
        "rounds": results.round_R.tolist(),
        "nodes": list(results.nodes),
        "tiers": [t.value for t in results.tiers],
        "accuracy": np.round(results.accuracy_RV, 6).tolist(),
        "final": {t.value: round(results.final(t), 6) for t in Tier if t in results.tiers},
        "alone": results.alone,
        "own_mix": {"device": _rounded(results.final_own), "alone": _rounded(results.alone_own)},
        "centralised": results.centralised,
        "gap_closed": results.gap_closed,
        "bytes_total": results.bytes_total,
        "bytes_per_device": results.bytes_per_device,
        "seconds": round(results.seconds, 3),
        **({"views": views} if views else {}),
        **({"chosen_view": results.chosen_view} if results.chosen_view else {}),
    }


def format_bytes(count: float) -> str:
    """A size with a unit of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
