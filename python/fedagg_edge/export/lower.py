"""From recorded torch operators to the runtime's: the walk over a graph, and the table of translations.

Every translation is a function of this module's `Lowering` and a node, registered under the torch operator's name; the
modules beside this one hold them by family. What an operator needs that lies outside the graph being written (weights,
what a forward pass kept for the backward one) comes from `given`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from fedagg_edge.errors import ExportError
from fedagg_edge.export import ops
from fedagg_edge.export.trace import Node, Rows, refuse
from fedagg_edge.export.values import Value, plain
from fedagg_edge.export.writer import GraphWriter, Tensor, schema

__all__ = ["Key", "Lowering", "canonical", "inputs_of", "translates"]

Key: TypeAlias = "tuple[Node, int]"
"""One output of one node."""

Result: TypeAlias = "Value | tuple[Value | None, ...]"
Translation: TypeAlias = "Callable[[Lowering, Node], Result]"

_TRANSLATIONS: dict[str, Translation] = {}
_OWN = {"running_mean", "running_var"}  # what `trace` adds to torch's operators
_ALIASES = {
    "aten.alias.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.detach.default",
    "aten.lift_fresh_copy.default",
}


def translates(*names: str) -> Callable[[Translation], Translation]:
    """Register a translation for torch operators, named as ``relu.default``."""

    def register(function: Translation) -> Translation:
        _TRANSLATIONS.update({name if name in _OWN else f"aten.{name}": function for name in names})
        return function

    return register


def canonical(node: Node) -> Key:
    """The node and output that `node` is another name of."""
    while node.op in _ALIASES:
        node = node.args[0]
    if node.op == "getitem":
        return node.args[0], node.args[1]
    return node, 0


def inputs_of(node: Node) -> list[Node]:
    """The nodes that a node is computed from."""
    found: list[Node] = []
    pending: list[Any] = [*node.args, *node.kwargs.values()]
    while pending:
        item = pending.pop()
        if isinstance(item, Node):
            found.append(canonical(item)[0])
        elif isinstance(item, tuple):
            pending += item
    return found


class Lowering:
    """Writes one graph. `given` supplies values that are not computed here, or None for those that are.

    `batch` is an input whose first axis is the batch.
    """

    def __init__(self, g: GraphWriter, batch: Tensor, given: Callable[[Key], Value | None]) -> None:
        self.g = g
        self._batch = batch
        self._given = given
        self._values: dict[Node, tuple[Value | None, ...]] = {}

    def write(self, nodes: Iterable[Node]) -> None:
        """Write the operators of `nodes`, which come before what needs them."""
        for node in nodes:
            self._values[node] = self._translated(node)

    def _translated(self, node: Node) -> tuple[Value | None, ...]:
        if node.op == "get_attr" and node.value is not None:
            return (plain(self.g.constant(np.ascontiguousarray(node.value.numpy()))),)
        translation = _TRANSLATIONS.get(node.op)
        if translation is None:
            raise refuse(node, "no translation for the runtime; replace it with operators that docs/on-device.md lists")
        try:
            result = translation(self, node)
        except ExportError as error:
            if str(error).startswith("operator "):
                raise
            raise refuse(node, str(error)) from error
        return result if isinstance(result, tuple) else (result,)

    def has(self, node: Node) -> bool:
        """Whether a node's operators are written."""
        return node in self._values

    def get(self, node: Any) -> Value:
        """The value of a node; raise ExportError where torch gave none."""
        return self.value(canonical(node))

    def value(self, key: Key) -> Value:
        """As `get`, of one output of a node."""
        node, output = key
        found = self._values[node][output] if node in self._values else self._given(key)
        if found is None:
            raise refuse(node, "its output is used but was not computed")
        return found

    def operand(self, item: Any) -> Value:
        """A node's value, or a number as a constant."""
        if isinstance(item, Node):
            return self.get(item)
        if isinstance(item, Rows):
            return plain(ops.binary(self.g, "mul", self.rows(), self.g.constant(float(item.factor))))
        return plain(self.g.constant(float(item)))

    def rows(self) -> Tensor:
        """The batch size as a float32 scalar."""
        options = schema.ShapeOptionsT()
        options.outType = schema.TensorType.INT32
        rank = len(self._batch.shape)
        shape = self.g.op(schema.BuiltinOperator.SHAPE, [self._batch], (rank,), options, dtype=np.int32)
        first = ops.split(self.g, shape, 0, [1, rank - 1])[0]
        return ops.reshape(self.g, ops.cast(self.g, first, np.float32), ())
