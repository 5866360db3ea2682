"""The three graphs of a training file: `forward` and `backward` around a loss that lives elsewhere, and `infer`.

Everything is stateless: weights go in as one flat vector (parameters, then float buffers, in torch's layout and order)
and come out as a flat gradient and new buffers. What the backward pass needs of the forward one goes out of `forward`
and into `backward` as `saved_*`. Random masks are inputs, drawn by whoever trains.
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
from fedagg_edge.export.lower import Key, Lowering, canonical, inputs_of
from fedagg_edge.export.trace import Node, Trace, refuse
from fedagg_edge.export.values import Value, arrange, plain
from fedagg_edge.export.writer import GraphWriter, ModelWriter, Tensor

__all__ = ["Mask", "write_function", "write_inference", "write_training"]

_RANDOM = {"aten.bernoulli_.float", "aten.bernoulli.p"}


@dataclass(frozen=True, slots=True)
class Mask:
    """A random input of `forward`: zeros and ones, ones with probability `keep`; `shape` as in the writer."""

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
    """Add the graphs `forward` and `backward`; return the masks that `forward` wants.

    forward: x, weights, masks -> logits, buffers (if any is trained), saved_*.
    backward: x, weights, upstream (dLoss/dlogits), saved_* -> gradient, flat over the parameters.
    """
    forward = _Forward(model, trace)
    backward = _Backward(model, trace, forward)
    forward.finish(backward.saved)  # first, so that it is the file's main graph
    backward.finish()
    return tuple(forward.masks.values())


class _Forward:
    """The graph `forward`, open until it is known what the backward pass needs."""

    def __init__(self, model: ModelWriter, trace: Trace) -> None:
        self._g = model.graph("forward")
        self._trace = trace
        self._inputs = _Inputs(self._g, trace)
        self.masks: dict[Node, Mask] = {}
        self._mask_values: dict[Node, Value] = {}
        self._lowering = Lowering(self._g, self._inputs.x, self._given)
        changed = [n for name, n in trace.new_buffers.items() if canonical(n)[0] is not trace.buffers[name]]
        self._new_buffers = list(trace.new_buffers.values()) if changed else []
        nodes = _ordered([trace.logits, *self._new_buffers], _is_input)
        self._lowering.write(nodes)
        self.nodes = {*nodes, *self.masks}

    def value(self, key: Key) -> Value:
        """One of the pass's values, as it lies in memory."""
        return self._lowering.value(key)

    def finish(self, saved: dict[str, Key]) -> None:
        g = self._g
        outputs = {"logits": _owned(g, arrange(g, self._lowering.get(self._trace.logits)))}
        if self._new_buffers:
            flat = [ops.reshape(g, self._lowering.get(n).tensor, (_size(n.shape),)) for n in self._new_buffers]
            outputs["buffers"] = ops.concatenate(g, flat, 0)
        outputs.update({name: self.value(key).tensor for name, key in saved.items()})
        g.finish("forward", outputs)

    def _given(self, key: Key) -> Value | None:
        node = key[0]
        if node.op not in _RANDOM:
            return self._inputs.given(key)
        if node not in self.masks:
            keep = float(node.args[1]) if len(node.args) > 1 else 0.5  # torch leaves its default out
            mask = Mask(f"mask_{len(self.masks)}", node.shape, keep)
            self.masks[node] = mask
            self._mask_values[node] = plain(self._g.input(mask.name, mask.shape))
        return self._mask_values[node]


class _Backward:
    """The graph `backward`. `saved` names what it takes from the forward pass."""

    def __init__(self, model: ModelWriter, trace: Trace, forward: _Forward) -> None:
        if trace.upstream is None:
            raise ExportError("got a recording of inference, expected one of training")
        self._g = g = model.graph("backward")
        self._forward = forward
        self._inputs = _Inputs(g, trace)
        self._upstream = trace.upstream, plain(g.input("upstream", trace.upstream.shape))
        self._saved: dict[Key, Value] = {}
        lowering = Lowering(g, self._inputs.x, self._given)
        gradients = [n for n in trace.gradients if n is not None]
        lowering.write(_ordered(gradients, lambda n: _is_input(n) or n in forward.nodes))
        pairs = zip(trace.gradients, trace.parameters.values(), strict=True)
        self._gradient = _owned(g, ops.concatenate(g, [_flat_gradient(g, lowering, *pair) for pair in pairs], 0))

    @property
    def saved(self) -> dict[str, Key]:
        """Name -> what `forward` must give out under it, which is what is read here."""
        used = self._g.used([self._gradient])
        return {f"saved_{i}": key for i, (key, v) in enumerate(self._saved.items()) if v.tensor.index in used}

    def finish(self) -> None:
        """Make it part of the file."""
        self._g.drop_unused_inputs([v.tensor for v in self._saved.values()], [self._gradient])
        self._g.finish("backward", {"gradient": self._gradient})

    def _given(self, key: Key) -> Value | None:
        if key[0] is self._upstream[0]:
            return self._upstream[1]
        if key[0] not in self._forward.nodes:
            return self._inputs.given(key)
        if key not in self._saved:
            there = self._forward.value(key)
            tensor = self._g.input(f"saved_{len(self._saved)}", there.tensor.shape, there.tensor.dtype)
            self._saved[key] = Value(tensor, there.shape, there.order)
        return self._saved[key]


def _flat_gradient(g: GraphWriter, lowering: Lowering, gradient: Node | None, parameter: Node) -> Tensor:
    size = _size(parameter.shape)
    if gradient is None:
        return g.constant(np.zeros(size, np.float32))
    return ops.reshape(g, arrange(g, lowering.get(gradient)), (size,))
