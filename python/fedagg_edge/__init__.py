"""fedagg-edge: train a large model together across devices, edges and a cloud (FedAgg).

Importing this package loads neither torch, a TFLite runtime nor an HTTP library; what needs them loads them when used.

    >>> import fedagg_edge
    >>> results = fedagg_edge.simulate("examples/digits.toml")      # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fedagg_edge.config import SimulationConfig, load_config
    from fedagg_edge.errors import FedaggError
    from fedagg_edge.simulation.results import SimulationResults
    from fedagg_edge.simulation.run import simulate

# name -> module; resolved on first use so that the import stays light
_EXPORTS = {
    "FedaggError": "fedagg_edge.errors",
    "SimulationConfig": "fedagg_edge.config",
    "SimulationResults": "fedagg_edge.simulation.results",
    "load_config": "fedagg_edge.config",
    "simulate": "fedagg_edge.simulation.run",
}

__all__ = ["FedaggError", "SimulationConfig", "SimulationResults", "__version__", "load_config", "simulate"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
