"""Writes a .tflite file: tensors, builtin operators, signatures and metadata, as a FlatBuffer. No TensorFlow.

What lives here: the container. What does not: the meaning of operators (`ops`) and of torch (`lower`). The schema is
the module that ai-edge-litert ships.

A shape is a tuple of integers; a negative one, -a, stands for a times the batch size, which the runtime learns when an
input is set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ExportError

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
except ModuleNotFoundError as error:
    raise ExportError(
        f"writing .tflite files needs {error.name}; run: pip install 'fedagg-edge[torch,export]'"
    ) from error

__all__ = ["GraphWriter", "ModelWriter", "Tensor", "schema"]

FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT, _SHORT = 4, 64  # bytes: of numbers in a vector, and of vectors that are looked for in others
_HIGHEST_OLD_CODE = 127  # operator codes were bytes once; newer ones stand in another field

_DTYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of one graph: `index` in it, `shape` (negative: times the batch size) and NumPy `dtype`."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = np.dtype(np.float32)  # noqa: RUF009  immutable


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that stores equal vectors of numbers, strings and tables once: most shapes occur many times."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.tables: dict[tuple[Any, ...], int] = {}
        self._vectors: dict[bytes, int] = {}
        self._strings: dict[Any, int] = {}
        self._before, self._holds_offsets = 0, False

    def StartVector(self, *args: Any) -> Any:
        """Start a vector."""
        self._before, self._holds_offsets = self.Offset(), False  # counted from the end: the front grows
        return super().StartVector(*args)

    def CreateString(self, text: Any, *args: Any) -> int:
        """Write a string; give an equal one's place back if there is one."""
        if text not in self._strings:
            self._strings[text] = super().CreateString(text, *args)
        return self._strings[text]

    def PrependUOffsetTRelative(self, offset: int) -> None:
        """Put an offset, whose bytes depend on where it lies, into what is being built."""
        self._holds_offsets = True
        super().PrependUOffsetTRelative(offset)

    def EndVector(self, *args: Any) -> Any:
        """End a vector; give an equal one's place back if there is one."""
        place = super().EndVector(*args)
        if self._holds_offsets:
            return place
        start, end = (len(self.Bytes) - offset for offset in (self.Offset(), self._before))
        content = bytes(self.Bytes[start:end])
        if content not in self._vectors:
            found = self._aligned(content, end)
            self._vectors[content] = place if found < 0 else len(self.Bytes) - found
        if self._vectors[content] != place:
            self.head = end
        return self._vectors[content]

    def _aligned(self, content: bytes, begin: int) -> int:
        """Where in the bytes from `begin` on a short vector stands by chance, -1 if nowhere: none is written twice."""
        found = self.Bytes.find(content, begin) if len(content) <= _SHORT else -1
        while found >= 0 and (len(self.Bytes) - found) % _ALIGNMENT:
            found = self.Bytes.find(content, found + 1)
        return found


class _Once:
    """A table, an operator's options say, that stands in a file once and is pointed to by all who have an equal one."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.key = _frozen(table)

    def Pack(self, builder: _Builder) -> int:
        """The place of the table in the file."""
        if self.key not in builder.tables:
            builder.tables[self.key] = self._table.Pack(builder)
        return builder.tables[self.key]


class ModelWriter:
    """One file: its graphs, and the buffers and operator codes that they share."""

    def __init__(self, description: str) -> None:
        self._model = schema.ModelT()
        self._model.version = _SCHEMA_VERSION
        self._model.description = description
        self._model.buffers = [schema.BufferT()]  # the first is empty, by the format's rule
        self._model.operatorCodes = []
        self._model.subgraphs = []
        self._model.signatureDefs = []
        self._codes: dict[int, int] = {}
        self._buffers: dict[bytes, int] = {}
        self._numbered = False

    def graph(self, name: str) -> GraphWriter:
        """Start a graph; it is part of the file once `GraphWriter.finish` is called."""
        return GraphWriter(self, name)

    def finish(self, metadata: Mapping[str, bytes]) -> bytes:
        """The file's bytes, with `metadata` attached by name; may be called again with other metadata."""
        if not self._numbered:
            self._number_tensors()
            self._numbered = True
        self._number_codes()
        kept = len(self._model.buffers)
        self._model.metadata = [self._attached(name, content) for name, content in metadata.items()]
        entries = [graph.operators for graph in self._model.subgraphs]
        for graph in self._model.subgraphs:
            graph.operators = [_Once(entry) for entry in graph.operators]
        builder = _Builder(1 << 14)
        builder.Finish(self._model.Pack(builder), file_identifier=FILE_IDENTIFIER)
        del self._model.buffers[kept:]
        for graph, kept_entries in zip(self._model.subgraphs, entries, strict=True):
            graph.operators = kept_entries
        return bytes(builder.Output())

    def _number_codes(self) -> None:
        """Give the operator that is used most the number 0, which takes no place in a file."""
        entries = [entry for graph in self._model.subgraphs for entry in graph.operators]
        counts = Counter(entry.opcodeIndex for entry in entries)
        order = sorted(range(len(self._model.operatorCodes)), key=lambda number: -counts[number])
        for entry in entries:
            entry.opcodeIndex = order.index(entry.opcodeIndex)
        self._model.operatorCodes = [self._model.operatorCodes[number] for number in order]
        self._codes = {operator: order.index(number) for operator, number in self._codes.items()}

    def _number_tensors(self) -> None:
        """Give alike operators of two graphs the same numbers, so that one table stands for both.

        `infer` is mostly a part of `train` on other values. Pairs of tensors come first in both graphs.
        """
        if len(self._model.subgraphs) != 2:
            return
        large, small = sorted(self._model.subgraphs, key=lambda graph: -len(graph.tensors))
        pairs = _alike(small, large)
        for graph, first in ((small, list(pairs)), (large, list(pairs.values()))):
            taken = set(first)
            order = first + [t for t in range(len(graph.tensors)) if t not in taken]
            self._renumber(graph, {old: new for new, old in enumerate(order)})

    def _renumber(self, graph: Any, place_of: Mapping[int, int]) -> None:
        graph.tensors = [graph.tensors[old] for old in place_of]
        graph.inputs, graph.outputs = ([place_of[t] for t in side] for side in (graph.inputs, graph.outputs))
        for entry in graph.operators:
            entry.inputs, entry.outputs = ([place_of[t] for t in side] for side in (entry.inputs, entry.outputs))
        signature = self._model.signatureDefs[next(i for i, g in enumerate(self._model.subgraphs) if g is graph)]
        for named in (*signature.inputs, *signature.outputs):
            named.tensorIndex = place_of[named.tensorIndex]

    def _attached(self, name: str, content: bytes) -> Any:
        entry, buffer = schema.MetadataT(), schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        entry.name, entry.buffer = name, len(self._model.buffers)
        self._model.buffers.append(buffer)
        return entry

    def code(self, operator: int, version: int) -> int:
        """The file's number for a builtin operator; the highest version asked for wins."""
        if operator not in self._codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode = operator
            entry.deprecatedBuiltinCode = min(operator, _HIGHEST_OLD_CODE)
            entry.version = version
            self._codes[operator] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(entry)
        entry = self._model.operatorCodes[self._codes[operator]]
        entry.version = max(entry.version, version)
        return self._codes[operator]

    def buffer(self, content: bytes) -> int:
        """The file's number for constant bytes; equal ones are stored once."""
        if content not in self._buffers:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content, np.uint8)
            self._buffers[content] = len(self._model.buffers)
            self._model.buffers.append(buffer)
        return self._buffers[content]

    def add_graph(self, graph: Any, key: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """Append a finished graph under the signature `key`, its inputs and outputs being tensor numbers by name."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, len(self._model.subgraphs)
        signature.inputs = [_named(n, t) for n, t in inputs.items()]
        signature.outputs = [_named(n, t) for n, t in outputs.items()]
        self._model.subgraphs.append(graph)
        self._model.signatureDefs.append(signature)


def _named(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


class GraphWriter:
    """One graph of a file. The same operator on the same inputs with the same options is written once."""

    def __init__(self, model: ModelWriter, name: str) -> None:
        self._model = model
        self._graph = schema.SubGraphT()
        self._graph.name = name
        self._graph.tensors = []
        self._graph.operators = []
        self._inputs: dict[str, Tensor] = {}
        self._constants: dict[tuple[Any, ...], Tensor] = {}
        self._unshaped: dict[int, Tensor] = {}
        self._makers: dict[int, tuple[int, list[Tensor], Any]] = {}
        self._known: dict[tuple[Any, ...], tuple[Tensor, ...]] = {}

    def input(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> Tensor:
        """An input of the signature."""
        self._inputs[name] = self._tensor(name, tuple(shape), np.dtype(dtype))
        return self._inputs[name]

    def maker(self, tensor: Tensor) -> tuple[int, list[Tensor], Any] | None:
        """Operator, inputs and options that make a tensor; None for an input or a constant."""
        return self._makers.get(tensor.index)

    def note_reshape(self, tensor: Tensor, source: Tensor) -> Tensor:
        """Remember that `tensor` is `source` under another shape; return it."""
        self._unshaped[tensor.index] = source
        return tensor

    def unshaped(self, tensor: Tensor) -> Tensor:
        """What a reshaped tensor was before, so that two reshapes become one or none."""
        return self._unshaped.get(tensor.index, tensor)

    def is_input(self, tensor: Tensor) -> bool:
        """Whether a tensor is one of the signature's inputs."""
        return tensor in self._inputs.values()

    def constant(self, value: NDArray[Any] | float) -> Tensor:
        """A constant, float32, int32 or bool; equal ones are one tensor."""
        array = np.ascontiguousarray(value, np.float32) if isinstance(value, float | int) else np.asarray(value)
        content = array.tobytes()
        key = (content, array.shape, array.dtype)
        if key not in self._constants:
            tensor = self._tensor(None, array.shape, array.dtype)
            self._graph.tensors[tensor.index].buffer = self._model.buffer(content)
            self._constants[key] = tensor
        return self._constants[key]

    def op(
        self,
        operator: int,
        inputs: Sequence[Tensor],
        shape: Sequence[int],
        options: Any = None,
        *,
        dtype: Any = np.float32,
        version: int = 1,
    ) -> Tensor:
        """Write a builtin operator with one output of `shape`; `options` is the schema's options object."""
        return self.op_many(operator, inputs, [shape], options, dtype=dtype, version=version)[0]

    def op_many(
        self,
        operator: int,
        inputs: Sequence[Tensor],
        shapes: Sequence[Sequence[int]],
        options: Any = None,
        *,
        dtype: Any = np.float32,
        version: int = 1,
    ) -> tuple[Tensor, ...]:
        """Write a builtin operator with one output a shape."""
        key = (operator, tuple(t.index for t in inputs), _frozen(options))
        if key in self._known:
            return self._known[key]
        outputs = tuple(self._tensor(None, tuple(s), np.dtype(dtype)) for s in shapes)
        entry = schema.OperatorT()
        entry.opcodeIndex = self._model.code(operator, version)
        entry.inputs = [t.index for t in inputs]
        entry.outputs = [t.index for t in outputs]
        if options is not None and _frozen(options) != _frozen(type(options)()):
            entry.builtinOptions = _Once(options)
            entry.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._graph.operators.append(entry)
        self._known[key] = outputs
        self._makers.update({t.index: (operator, list(inputs), options) for t in outputs})
        return outputs

    def _needed(self, needed: set[int]) -> tuple[set[int], list[Any]]:
        """The tensors that some need, themselves included, and the operators between."""
        kept = []
        for entry in reversed(self._graph.operators):
            if needed.intersection(entry.outputs):
                needed.update(entry.inputs, entry.outputs)
                kept.append(entry)
        return needed, kept[::-1]

    def finish(self, signature: str, outputs: Mapping[str, Tensor]) -> None:
        """Make the graph part of the file under the name `signature`; what no output needs is left out."""
        place_of = self._drop_unused({t.index for t in [*self._inputs.values(), *outputs.values()]})
        for name, tensor in outputs.items():
            self._graph.tensors[place_of[tensor.index]].name = name
        for entry in self._graph.tensors:
            if entry.name is None and not entry.buffer:
                # sizes between inputs and outputs are worked out by the runtime: with ones in their place, all tensors
                # of a rank are one table. The rank must stay: XNNPACK takes no operator of unknown rank, 6x slower
                entry.shape = [1] * len(entry.shape)
        self._graph.tensors = [_Once(t) for t in self._graph.tensors]
        self._graph.inputs = [place_of[t.index] for t in self._inputs.values()]
        self._graph.outputs = [place_of[t.index] for t in outputs.values()]
        named = ({n: place_of[t.index] for n, t in group.items()} for group in (self._inputs, outputs))
        self._model.add_graph(self._graph, signature, *named)

    def _drop_unused(self, needed: set[int]) -> dict[int, int]:
        """Leave out operators and tensors that nobody needs; return the new place of each tensor that stays."""
        needed, kept = self._needed(needed)
        place_of = {old: new for new, old in enumerate(sorted(needed))}
        self._graph.tensors = [self._graph.tensors[old] for old in place_of]
        self._graph.operators = kept
        for entry in kept:
            entry.inputs = [place_of[i] for i in entry.inputs]
            entry.outputs = [place_of[i] for i in entry.outputs]
        return place_of

    def _tensor(self, name: str | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Only inputs have names and say which of their sizes vary: the runtime works out the rest."""
        entry = schema.TensorT()
        entry.name, entry.type, entry.buffer = name, _DTYPES[dtype], 0
        entry.shape = [abs(d) for d in shape]
        if name is not None and any(d < 0 for d in shape):
            entry.shapeSignature = [-1 if d < 0 else d for d in shape]
        self._graph.tensors.append(entry)
        return Tensor(len(self._graph.tensors) - 1, shape, dtype)


def _alike(small: Any, large: Any) -> dict[int, int]:
    """Tensors of `small` with their partners in `large`, one to one: for each operator in turn the first one of the
    same kind, options and number of tensors whose tensors are partners already or have none yet."""
    partners: dict[int, int] = {}
    taken: set[int] = set()
    candidates: dict[tuple[Any, ...], list[Any]] = {}
    for entry in large.operators:
        candidates.setdefault(_kind(entry), []).append(entry)
    for entry in small.operators:
        alike = candidates.get(_kind(entry), [])
        for other in alike:
            found = _paired([*entry.inputs, *entry.outputs], [*other.inputs, *other.outputs], partners, taken)
            if found is not None:
                partners |= found
                taken.update(found.values())
                alike.remove(other)
                break
    return partners


def _paired(
    ours: Sequence[int], theirs: Sequence[int], partners: Mapping[int, int], taken: set[int]
) -> dict[int, int] | None:
    """The new pairs that make `ours` and `theirs` the same; None where they cannot be."""
    new: dict[int, int] = {}
    for a, b in zip(ours, theirs, strict=True):
        if partners.get(a, new.get(a, b)) != b or (
            a not in partners and a not in new and b in taken | set(new.values())
        ):
            return None
        if a not in partners:
            new[a] = b
    return new


def _kind(entry: Any) -> tuple[Any, ...]:
    options = entry.builtinOptions
    return entry.opcodeIndex, options and options.key, len(entry.inputs), len(entry.outputs)


def _frozen(table: Any) -> tuple[Any, ...]:
    """The contents of a table of numbers, and of tables of numbers, to compare it by."""
    if table is None:
        return ()
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(table).items()}
    fields = {k: v.key if isinstance(v, _Once) else v for k, v in fields.items()}
    return (type(table).__name__, *sorted(fields.items()))
