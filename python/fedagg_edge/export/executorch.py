"""`export_executorch`: a torch module into a training program that has checked itself against torch."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fedagg_edge import __version__
from fedagg_edge.errors import ExportError, LearnerError
from fedagg_edge.export.executorch_check import CheckReport, check_program
from fedagg_edge.export.executorch_graph import Graphs, origin, record
from fedagg_edge.files import write_atomic
from fedagg_edge.learners import executorch_file, executorch_runtime
from fedagg_edge.learners.flat import FlatModule

__all__ = ["compile_program", "export_executorch"]

_ROWS = 64
_FEWEST = 3  # with fewer the exporter sees lengths of 1 and 2 as special; the runtime does not
_SAMPLES = 7  # of the batch that the exporter is shown: no size of a small model


def export_executorch(
    module: nn.Module, sample_shape: Sequence[int], classes: int, path: str | os.PathLike[str], *, rows: int = _ROWS
) -> CheckReport:
    """Compile `module`, float32 (N, *sample_shape) -> logits (N, classes), and write it to `path`; return the check.

    The module's weights are the file's first ones. Batches of up to `rows` samples can be trained: memory is planned
    for that many. Before anything is written, one step is taken by the program and by torch and compared.

    Raises ExportError, naming operator, submodule and line, for what the runtime does not have, or if the check fails;
    LearnerError if ExecuTorch is not installed.
    """
    content, report = compile_program(module, sample_shape, classes, rows=rows)
    try:
        write_atomic(Path(path), content)
    except OSError as error:
        raise ExportError(f"{path}: cannot write the training program: {error.strerror}") from error
    return report


def compile_program(
    module: nn.Module, sample_shape: Sequence[int], classes: int, *, rows: int = _ROWS
) -> tuple[bytes, CheckReport]:
    """As `export_executorch`, into memory: the file's bytes and the check's report."""
    release = executorch_runtime.version()  # not installed: say so before the work
    if rows < _FEWEST:
        raise ExportError(f"rows: got {rows}, expected at least {_FEWEST}")
    shape = tuple(sample_shape)
    flat = _flat(module)
    graphs = record(module, shape, classes)
    program = _lower({n: getattr(graphs, n) for n in ("infer", "forward", "backward")}, rows)
    about = _description(flat, graphs, shape, classes, rows) | {"executorch": release}
    weights = flat.copy_out()
    report = check_program(module, executorch_file.seal(program, about, weights))
    return executorch_file.seal(program, about | {"self_check": report.as_json()}, weights), report


def _flat(module: nn.Module) -> FlatModule:
    """The module's table and weights; of a copy, for laying it flat changes it."""
    try:
        return FlatModule(copy.deepcopy(module))
    except LearnerError as error:
        raise ExportError(str(error)) from error


def _description(
    flat: FlatModule, graphs: Graphs, sample_shape: tuple[int, ...], classes: int, rows: int
) -> dict[str, Any]:
    """What the file says of itself; the check adds to it."""
    tensors = {**dict(flat.module.named_parameters()), **dict(flat.module.named_buffers())}
    dtypes = [str(tensors[e.name].dtype).removeprefix("torch.") for e in flat.table]
    return {
        "sample_shape": sample_shape,
        "classes": classes,
        "rows": rows,
        "table": [[e.name, e.shape, e.trained, d] for e, d in zip(flat.table, dtypes, strict=True)],
        "changed_buffers": graphs.changed_buffers,
        "output_dtypes": graphs.output_dtypes,  # for runtimes that have not all types; older files do not say
        "backward_inputs": graphs.backward_inputs,
        "noise_columns": graphs.noise_columns,
        "torch": torch.__version__,
        "fedagg": __version__,
        "self_check": {},
    }


def _lower(graphs: Mapping[str, fx.GraphModule], rows: int) -> bytes:
    """The program of several methods, all of whose operators the runtime has."""
    try:
        with _quiet():
            program = _manager(graphs, rows)
    except Exception as error:  # whatever the exporter raises: an operator without an out variant, a shape it guards
        raise ExportError(_blamed(graphs, f"ExecuTorch cannot express it: {_first_line(error)}", str(error))) from error
    missing = sorted(_operators(program) - executorch_runtime.operators())
    if missing:
        raise ExportError(
            _blamed(graphs, f"ExecuTorch's runtime has no operator {', '.join(missing)}", " ".join(missing))
        )
    return bytes(program.buffer)


def _manager(graphs: Mapping[str, fx.GraphModule], rows: int) -> Any:
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge  # noqa: PLC0415  seconds
    from executorch.exir.passes import MemoryPlanningPass  # noqa: PLC0415

    # weights and samples are read where they lie
    planning = MemoryPlanningPass(alloc_graph_input=False)
    exported = {name: _exported(graph, rows) for name, graph in graphs.items()}
    edge = to_edge(exported, compile_config=EdgeCompileConfig(_check_ir_validity=False))
    return edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))


def _exported(graph: fx.GraphModule, rows: int) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=_FEWEST, max=rows)
    arguments, dynamic = [], []
    for node in graph.graph.find_nodes(op="placeholder"):
        value = node.meta["val"]
        arguments.append(
            torch.zeros([s if isinstance(s, int) else _SAMPLES * _factor(s) for s in value.shape], dtype=value.dtype)
        )
        dynamic.append({i: _multiple(batch, _factor(s)) for i, s in enumerate(value.shape) if not isinstance(s, int)})
    return torch.export.export(graph, tuple(arguments), dynamic_shapes=tuple(dynamic))


def _factor(size: torch.SymInt) -> int:
    """How many times the batch's size a size is."""
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _multiple(batch: Any, factor: int) -> Any:
    return batch if factor == 1 else factor * batch


def _operators(program: Any) -> set[str]:
    plans = program.executorch_program.execution_plan
    return {f"{o.name}.{o.overload}".removesuffix(".") for plan in plans for o in plan.operators}


def _blamed(graphs: Mapping[str, fx.GraphModule], message: str, names: str) -> str:
    """`message`, and where the first operator that `names` mentions came from."""
    mentioned = set(re.findall(r"aten::?\.?(\w+)", names))
    mentioned |= {name.removesuffix("_copy") for name in mentioned}
    for graph in graphs.values():
        for node in graph.graph.nodes:
            if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.name[6:] in mentioned:
                return f"operator {node.target}{origin(node)}: {message}"
    return message


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
