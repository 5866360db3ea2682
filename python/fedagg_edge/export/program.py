"""The two graphs of a training file: `train`, forward and backward pass with the loss between them, and `infer`.

Everything is stateless: weights go in as one flat vector (parameters, then float buffers, in torch's layout and order)
and come out as a flat gradient and new buffers. Random masks are inputs, drawn by whoever trains. Why one graph:
docs/decisions/tflite-training-shape.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ExportError
from fedagg_edge.export import (  # noqa: F401  each registers its translations
    convolution,
    elementwise,
    linear,
    normalisation,
    ops,
    pooling,
    shapes,
)
from fedagg_edge.export.loss import write_upstream
from fedagg_edge.export.lower import Key, Lowering, canonical, inputs_of
from fedagg_edge.export.trace import Node, Trace, refuse
from fedagg_edge.export.values import Value, arrange, plain
from fedagg_edge.export.writer import GraphWriter, ModelWriter, Tensor

__all__ = ["Mask", "write_function", "write_inference", "write_training"]

_RANDOM = {"aten.bernoulli_.float", "aten.bernoulli.p"}


@dataclass(frozen=True, slots=True)
class Mask:
    """A random input of `train`: zeros and ones, ones with probability `keep`; `shape` as in the writer."""

    name: str
    shape: tuple[int, ...]
    keep: float


class _Inputs:
    """A graph's inputs as values: x, and the flat weights cut into torch's parameters and buffers."""

    def __init__(self, g: GraphWriter, trace: Trace) -> None:
        self.g = g
        named = {**trace.parameters, **trace.buffers}
        self._stored = [n for n in named.values() if _is_float(n)]
        self._counters = [n for n in named.values() if not _is_float(n)]
        self.x = g.input("x", trace.x.shape)
        self.weights = g.input("weights", (sum(_size(n.shape) for n in self._stored),))
        self._x_node = trace.x

    def given(self, key: Key) -> Value | None:
        """The value of an input node, None for any other."""
        node = key[0]
        if node is self._x_node:
            return plain(self.x)
        if node in self._counters:
            raise refuse(node, "the model computes with a counter of training passes, which devices do not have")
        if node in self._stored:
            parts = ops.split(self.g, self.weights, 0, [_size(n.shape) for n in self._stored])
            return plain(ops.reshape(self.g, parts[self._stored.index(node)], node.shape))
        return None


def _is_float(node: Node) -> bool:
    dtype = node.dtypes[0]
    return dtype is not None and dtype.is_floating_point


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _ordered(targets: Iterable[Node], stop: Callable[[Node], bool]) -> list[Node]:
    """All nodes that `targets` are computed from and that do not stop the search, sources first."""
    order: list[Node] = []
    seen: set[Node] = set()
    pending = [(canonical(t)[0], False) for t in targets]
    while pending:
        node, done = pending.pop()
        if done:
            order.append(node)
        elif node not in seen and not stop(node):
            seen.add(node)
            pending.append((node, True))
            pending += [(source, False) for source in inputs_of(node)]
    return order


def _is_input(node: Node) -> bool:
    return node.op == "placeholder" or node.op in _RANDOM


def write_inference(model: ModelWriter, trace: Trace) -> None:
    """Add the graph `infer`: x and weights in, logits out, in evaluation mode."""
    g = model.graph("infer")
    inputs = _Inputs(g, trace)
    lowering = Lowering(g, inputs.x, inputs.given)
    lowering.write(_ordered([trace.logits], _is_input))
    g.finish("infer", {"logits": _owned(g, arrange(g, lowering.get(trace.logits)))})


def write_function(model: ModelWriter, name: str, trace: Trace, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Add the graph `name` of a recorded inference: x in, y out, the weights being constants: `values` by name."""
    g = model.graph(name)
    x = g.input("x", trace.x.shape)
    stored = {node: values[n] for n, node in {**trace.parameters, **trace.buffers}.items()}

    def given(key: Key) -> Value | None:
        if key[0] is trace.x:
            return plain(x)
        return plain(g.constant(stored[key[0]])) if key[0] in stored else None

    lowering = Lowering(g, x, given)
    lowering.write(_ordered([trace.logits], _is_input))
    g.finish(name, {"y": _owned(g, arrange(g, lowering.get(trace.logits)))})


def _owned(g: GraphWriter, tensor: Tensor) -> Tensor:
    """An output that is no input: a copy where it would be one."""
    return ops.binary(g, "add", tensor, g.constant(0.0)) if g.is_input(tensor) else tensor


def write_training(model: ModelWriter, trace: Trace) -> tuple[Mask, ...]:
    """Add the graph `train`; return the masks that it wants.

    train: x, weights, masks and the inputs of `write_upstream` -> logits, buffers (if any is trained), gradient, flat
    over the parameters.
    """
    if trace.upstream is None:
        raise ExportError("got a recording of inference, expected one of training")
    g = model.graph("train")
    inputs, masks, upstream = _Inputs(g, trace), _Masks(g), list[Value]()

    def given(key: Key) -> Value | None:
        if key[0] is trace.upstream:
            return upstream[0]
        return masks.given(key[0]) if key[0].op in _RANDOM else inputs.given(key)

    lowering = Lowering(g, inputs.x, given)
    buffers = _new_buffers(trace)
    lowering.write(_ordered([trace.logits], _is_input))
    outputs = {"logits": _owned(g, arrange(g, lowering.get(trace.logits)))}
    if buffers:
        outputs["buffers"] = _write_buffers(lowering, inputs.weights, buffers)
    upstream.append(plain(write_upstream(g, outputs["logits"])))
    gradients = [n for n in trace.gradients if n is not None]
    lowering.write(_ordered(gradients, lambda n: _is_input(n) or lowering.has(n)))
    pairs = zip(trace.gradients, trace.parameters.values(), strict=True)
    outputs["gradient"] = _owned(g, ops.concatenate(g, [_flat_gradient(g, lowering, *pair) for pair in pairs], 0))
    g.finish("train", outputs)
    return tuple(masks.drawn)


def _new_buffers(trace: Trace) -> list[Node]:
    """All buffers after the pass, if it changes any."""
    changed = any(canonical(n)[0] is not trace.buffers[name] for name, n in trace.new_buffers.items())
    return list(trace.new_buffers.values()) if changed else []


def _write_buffers(lowering: Lowering, weights: Tensor, buffers: Sequence[Node]) -> Tensor:
    """The new buffers, flat; the old ones are the end of the weights."""
    lowering.write(
        _ordered([s for n in buffers for s in inputs_of(canonical(n)[0])], lambda n: _is_input(n) or lowering.has(n))
    )
    g, size = lowering.g, weights.shape[0]
    old = ops.slices(g, weights, 0, (size - sum(_size(n.shape) for n in buffers), size, 1))
    together = normalisation.moved_together(lowering, buffers, old)
    if together is not None:
        return together
    lowering.write(_ordered(buffers, lambda n: _is_input(n) or lowering.has(n)))
    return ops.concatenate(g, [_flat(g, lowering.get(n).tensor) for n in buffers], 0)


class _Masks:
    """Random inputs of a graph, made when they are first asked for."""

    def __init__(self, g: GraphWriter) -> None:
        self._g = g
        self._values: dict[Node, Value] = {}
        self.drawn: list[Mask] = []

    def given(self, node: Node) -> Value:
        """The mask that `node` draws."""
        if node not in self._values:
            keep = float(node.args[1]) if len(node.args) > 1 else 0.5  # torch leaves its default out
            mask = Mask(f"mask_{len(self.drawn)}", node.shape, keep)
            self.drawn.append(mask)
            self._values[node] = plain(self._g.input(mask.name, mask.shape))
        return self._values[node]


def _flat(g: GraphWriter, tensor: Tensor) -> Tensor:
    return ops.reshape(g, tensor, (_size(tensor.shape),))


def _flat_gradient(g: GraphWriter, lowering: Lowering, gradient: Node | None, parameter: Node) -> Tensor:
    size = _size(parameter.shape)
    if gradient is None:
        return g.constant(np.zeros(size, np.float32))
    return ops.reshape(g, arrange(g, lowering.get(gradient)), (size,))
