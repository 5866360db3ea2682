"""`export_tflite`: a torch module into a training file that has checked itself against torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedagg_edge import __version__
from fedagg_edge.errors import ExportError
from fedagg_edge.export.check import CheckReport, check_file, rows_apart
from fedagg_edge.export.program import Mask, write_inference, write_training
from fedagg_edge.export.trace import Trace, trace_inference, trace_training
from fedagg_edge.export.writer import ModelWriter
from fedagg_edge.learners import tflite_file

__all__ = ["compile_module", "export_tflite", "write_file"]


def export_tflite(
    module: nn.Module, sample_shape: Sequence[int], classes: int, path: str | os.PathLike[str]
) -> CheckReport:
    """Compile `module`, float32 (N, *sample_shape) -> logits (N, classes), and write it to `path`; return the check.

    The module's weights are the file's first ones. Batches of every size can be trained. Before anything is written,
    one step is taken by the file and by torch and compared, see `check_file`.

    Raises ExportError, naming operator, submodule and line, for what cannot be compiled, or if the check fails.
    """
    content, report = compile_module(module, sample_shape, classes)
    write_file(content, Path(path))
    return report


def compile_module(module: nn.Module, sample_shape: Sequence[int], classes: int) -> tuple[bytes, CheckReport]:
    """As `export_tflite`, into memory: the file's bytes and the check's report."""
    shape = tuple(sample_shape)
    training, inference = trace_training(module, shape, classes), trace_inference(module, shape)
    model = ModelWriter(f"fedagg-edge {__version__}")
    about = _description(training, write_training(model, training), classes)
    write_inference(model, inference)
    weights = _flat_weights(module).tobytes()
    about["rows_apart"] = rows_apart(_sealed(model, about, weights))
    report = check_file(module, _sealed(model, about, weights))
    about["self_check"] = report.as_json()
    return _sealed(model, about, weights), report


def _sealed(model: ModelWriter, about: dict[str, object], weights: bytes) -> bytes:
    """The file with `about` as its description."""
    metadata = {tflite_file.DESCRIPTION: tflite_file.packed(about), tflite_file.WEIGHTS: weights}
    return tflite_file.seal(model.finish(metadata))


def _description(trace: Trace, masks: Sequence[Mask], classes: int) -> dict[str, object]:
    """What the file says of itself; the check adds to it."""
    kinds = {
        "trained": list(trace.parameters),
        "buffer": [n for n in trace.buffers if not _is_integer(trace, n)],
        "counter": [n for n in trace.buffers if _is_integer(trace, n)],
    }
    nodes = {**trace.parameters, **trace.buffers}
    return {
        "format": tflite_file.FORMAT,
        "schema": tflite_file.SCHEMA,
        "classes": classes,
        "sample_shape": trace.x.shape[1:],
        "table": [[name, nodes[name].shape, kind] for kind, names in kinds.items() for name in names],
        "counted": [trace.counters[n] for n in kinds["counter"]],
        "masks": [[m.name, _without_batch(m), m.keep] for m in masks],
        "rows_apart": False,
        "torch": torch.__version__,
        "fedagg": __version__,
        "self_check": {},
    }


def _is_integer(trace: Trace, name: str) -> bool:
    dtype = trace.buffers[name].dtypes[0]
    return dtype is not None and not dtype.is_floating_point


def _without_batch(mask: Mask) -> tuple[int, ...]:
    if mask.shape[0] != -1 or any(size < 0 for size in mask.shape[1:]):
        raise ExportError(f"a random mask of shape {mask.shape} is not drawn row by row, which has no translation")
    return mask.shape[1:]


def _flat_weights(module: nn.Module) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """All entries in the order of the table, float32."""
    parameters, buffers = list(module.parameters()), list(module.buffers())
    ordered = [
        *(p for p in parameters if p.requires_grad),
        *(p for p in parameters if not p.requires_grad),
        *(b for b in buffers if b.is_floating_point()),
        *(b for b in buffers if not b.is_floating_point()),
    ]
    if not any(p.requires_grad for p in parameters):
        raise ExportError("the model has no parameters to train")
    return torch.cat([t.detach().reshape(-1).to(torch.float32) for t in ordered]).numpy()


def write_file(content: bytes, target: Path) -> None:
    """Write beside and rename: a crash leaves the old file or the new one, never half of one."""
    try:
        handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o644)
            Path(beside).replace(target)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ExportError(f"{target}: cannot write the training file: {error.strerror}") from error
