"""The TFLite runtime of this machine: which one, and how to run a training file's graphs on it.

`ai-edge-litert` (NumPy 2) is tried first, then `tflite-runtime` 2.14 (NumPy below 2), which with NumPy 2 can be
imported but not used: so one counts as there only when it has made an interpreter.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.targets import Targets
from fedagg_edge.learners.tflite_file import TrainingFile

__all__ = ["Graphs", "Pass", "Runtime", "open_graphs", "open_interpreter", "refuse_if_none"]

_KNOWN = (
    ("ai-edge-litert", "ai_edge_litert.interpreter", "litert"),
    ("tflite-runtime", "tflite_runtime.interpreter", "tflite"),
)

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime that was chosen: its distribution's name and version."""

    name: str
    version: str


class Pass(NamedTuple):
    """What a training pass gives: logits [N, C], the float buffers that it leaves (None: it changes none), and
    dLoss/dparameters, flat."""

    logits_NC: Array
    buffers: Array | None
    gradient: Array


def open_graphs(file: TrainingFile, threads: int = 1, prefer: str | None = None) -> Graphs:
    """The graphs of a training file; see `open_interpreter`."""
    return Graphs(*open_interpreter(file.content, threads, prefer))


def open_interpreter(content: bytes, threads: int = 1, prefer: str | None = None) -> tuple[Any, Runtime]:
    """Make an interpreter with the first runtime that can, or with the one called `prefer`; also say which it is.

    Raises LearnerError, saying why for each runtime, if none can.
    """
    faults = []
    for name, module, extra in _wanted(prefer):
        try:
            interpreter = importlib.import_module(module).Interpreter(model_content=content, num_threads=threads)
            version = importlib.import_module(module.partition(".")[0]).__version__
            return interpreter, Runtime(name, version)
        except ModuleNotFoundError:
            faults.append(_not_installed(name, extra))
        except (ImportError, AttributeError, RuntimeError, SystemError, TypeError, ValueError) as error:
            faults.append(f"{name} cannot make an interpreter: {error}{_remedy(name)}")
    raise _none(faults, prefer)


def refuse_if_none(prefer: str | None = None) -> None:
    """Raise LearnerError as `open_interpreter` does if none is installed that this NumPy can have. Imports none."""
    faults = []
    for name, module, extra in _wanted(prefer):
        if not _is_installed(module):
            faults.append(_not_installed(name, extra))
        elif remedy := _remedy(name):
            faults.append(f"{name} cannot make an interpreter{remedy}")
        else:
            return
    raise _none(faults, prefer)


def _wanted(prefer: str | None) -> list[tuple[str, str, str]]:
    return [known for known in _KNOWN if prefer in (None, known[0])]


def _is_installed(module: str) -> bool:
    """Whether the package of a module is there; what a package imports is not looked at."""
    package = module.partition(".")[0]
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None


def _not_installed(name: str, extra: str) -> str:
    return f"{name} is not installed: pip install 'fedagg-edge[{extra}]'"


def _none(faults: list[str], prefer: str | None) -> LearnerError:
    return LearnerError(f"no TFLite runtime is usable: {'; '.join(faults) or f'{prefer!r} is not known'}")


def _remedy(name: str) -> str:
    newer = int(np.__version__.partition(".")[0]) >= 2
    return f" (it needs numpy < 2, got {np.__version__})" if name == "tflite-runtime" and newer else ""


class Graphs:
    """A training file's graphs as functions of arrays. Not for two threads at once."""

    def __init__(self, interpreter: Any, runtime: Runtime) -> None:
        self.runtime = runtime
        self._infer, self._train = (_Graph(interpreter, name) for name in ("infer", "train"))

    def infer(self, x_N: Array, weights: Array) -> Array:
        """Logits [N, C] in evaluation mode."""
        self._infer.run({"x": x_N, "weights": weights})
        return self._infer.copy_of("logits")

    def train(self, x_N: Array, weights: Array, masks: Mapping[str, Array], targets: Targets) -> Pass:
        """A pass forward and backward in training mode."""
        train = self._train
        inputs = {"x": x_N, "weights": weights, "targets": targets.rows_NT, "settings": targets.settings}
        train.run({**inputs, **masks})
        buffers = train.copy_of("buffers") if "buffers" in train.outputs else None
        return Pass(train.copy_of("logits"), buffers, train.copy_of("gradient"))


class _Graph:
    """One graph of an interpreter.

    The interpreter's `SignatureRunner` does the same with the same calls, but sets sizes and looks at names anew at
    every call.
    """

    def __init__(self, interpreter: Any, name: str) -> None:
        details = interpreter.get_signature_runner(name)
        self.inputs = {n: d["index"] for n, d in details.get_input_details().items()}
        self.outputs = {n: d["index"] for n, d in details.get_output_details().items()}
        self._calls = interpreter._interpreter
        self._subgraph = self._calls.GetSubgraphIndexFromSignature(name)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def run(self, inputs: Mapping[str, Array]) -> None:
        """Run the graph; its outputs stay until it is run again."""
        calls, subgraph = self._calls, self._subgraph
        for name, array in inputs.items():
            if self._shapes.get(name) != array.shape:
                calls.ResizeInputTensor(self.inputs[name], np.array(array.shape, np.int32), False, subgraph)
                self._shapes[name] = array.shape
        calls.AllocateTensors(subgraph)
        for name, array in inputs.items():
            calls.SetTensor(self.inputs[name], array, subgraph)
        calls.Invoke(subgraph)

    def copy_of(self, name: str) -> Array:
        """A copy of an output."""
        array: Array = self._calls.GetTensor(self.outputs[name], self._subgraph)
        return array
