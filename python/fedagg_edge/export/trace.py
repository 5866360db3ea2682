"""A torch module as a list of torch's own basic operators: its forward pass and, in training, its backward pass.

torch's autograd makes the gradients; here they are only written down. The graph is recorded for two batch sizes: what
differs between the two recordings is a multiple of the batch size, everything else is fixed.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.traceback as fx_traceback
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from fedagg_edge.errors import ExportError
from fedagg_edge.export.recording import named_modules, user_line

__all__ = ["Node", "Rows", "Trace", "refuse", "trace_inference", "trace_training"]

_SIZES = (5, 7)
_NAMELESS = "the model itself"

_aten = torch.ops.aten
_DECOMPOSED: dict[Any, Callable[..., Any]] = get_decompositions(
    [
        _aten.gelu_backward,
        _aten.hardsigmoid,
        _aten.hardsigmoid_backward,
        _aten.hardswish,
        _aten.hardswish_backward,
        _aten.hardtanh_backward,
        _aten.leaky_relu,
        _aten.leaky_relu_backward,
        _aten.native_group_norm_backward,
        _aten.native_layer_norm,
        _aten.native_layer_norm_backward,
        _aten.pixel_shuffle,
        _aten.pixel_unshuffle,
        _aten.sigmoid_backward,
        _aten.silu,
        _aten.silu_backward,
        _aten.tanh_backward,
    ]
)
"""Operators that torch itself writes in simpler ones. Others have a translation of their own, which is faster."""


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *sizes: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    rows, channels, _, groups = sizes
    variance, mean = torch.var_mean(x.reshape(rows, groups, -1), 2, correction=0, keepdim=True)
    inverse = torch.rsqrt(variance + eps)
    out = ((x.reshape(rows, groups, -1) - mean) * inverse).reshape(x.shape)
    per_channel = (1, channels, *(1,) * (x.dim() - 2))
    if weight is not None:
        out = out * weight.reshape(per_channel)
    if bias is not None:
        out = out + bias.reshape(per_channel)
    return out, mean.reshape(rows, groups), inverse.reshape(rows, groups)


# torch's own way has strides in it, which only its memory knows
_DECOMPOSED[_aten.native_group_norm.default] = lambda *args: _group_norm(*args[:-1], eps=args[-1])


@dataclass(frozen=True, slots=True)
class Rows:
    """A number that is `factor` times the batch size."""

    factor: int


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator's application. `args` and `kwargs` may hold nodes.

    `shapes` and `dtypes` are those of its outputs, one or several; a negative size, -a, is a times the batch size.
    `module` and `line` say where in the user's code it came from.
    """

    name: str
    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[tuple[int, ...] | None, ...]
    dtypes: tuple[torch.dtype | None, ...]
    module: str
    line: str
    value: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the only output."""
        shape = self.shapes[0]
        if shape is None:
            raise ExportError(f"operator {self.op}: has no output of a known shape")
        return shape


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded module.

    `parameters` and `buffers` are inputs by name, frozen parameters being buffers; integer ones may only count training
    passes, by as much as `counters` says. `new_buffers` are the float buffers after a training pass; `gradients` are in
    the parameters' order, None for one that the logits do not depend on. Both are empty for inference, and `upstream`
    (dLoss/dlogits) is None.
    """

    parameters: Mapping[str, Node]
    buffers: Mapping[str, Node]
    x: Node
    logits: Node
    upstream: Node | None
    new_buffers: Mapping[str, Node]
    gradients: tuple[Node | None, ...]
    counters: Mapping[str, int]


def refuse(node: Node, why: str) -> ExportError:
    """The error for a node that cannot be compiled: operator, submodule, line and reason."""
    where = f"in submodule {node.module!r}" if node.module != _NAMELESS else f"in {_NAMELESS}"
    line = f" at {node.line}" if node.line else ""
    return ExportError(f"operator {node.op} {where}{line}: {why}")


def trace_inference(module: nn.Module, sample_shape: Sequence[int]) -> Trace:
    """Record the forward pass in evaluation mode; see `Trace`.

    Raises ExportError if the module cannot be recorded for every batch size.
    """
    names = _Names.of(module)

    def run(parameters: list[Tensor], buffers: list[Tensor], x: Tensor) -> list[Tensor]:
        return [names.call(module, parameters, [b.clone() for b in buffers], x)]

    with _mode(module, training=False):
        nodes = _record(module, run, names, lambda n: (torch.zeros(n, *sample_shape),))
    return names.trace(nodes, trained=False)


def trace_training(module: nn.Module, sample_shape: Sequence[int], classes: int) -> Trace:
    """Record forward and backward pass in training mode; see `Trace`. Raises as `trace_inference`."""
    names = _Names.of(module)

    def run(parameters: list[Tensor], buffers: list[Tensor], x: Tensor, upstream: Tensor) -> list[Any]:
        parameters = [p.detach().requires_grad_() for p in parameters]
        buffers = [b.clone() for b in buffers]
        logits = names.call(module, parameters, buffers, x)
        gradients = torch.autograd.grad(logits, parameters, upstream, allow_unused=True)
        return [logits.detach(), *buffers, *gradients]

    with _mode(module, training=True):
        nodes = _record(module, run, names, lambda n: (torch.zeros(n, *sample_shape), torch.zeros(n, classes)))
    return names.trace(nodes, trained=True)


@dataclass(frozen=True, slots=True)
class _Names:
    """What the recorded function's inputs and outputs are called."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    shared: dict[str, str]

    @staticmethod
    def of(module: nn.Module) -> _Names:
        trained = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
        frozen = {n: p.detach() for n, p in module.named_parameters() if not p.requires_grad}
        return _Names(trained, {**frozen, **dict(module.named_buffers())}, _shared_names(module))

    def call(self, module: nn.Module, parameters: Sequence[Tensor], buffers: Sequence[Tensor], x: Tensor) -> Tensor:
        """The module's output with these in place of its own."""
        state = {
            **dict(zip(self.parameters, parameters, strict=True)),
            **dict(zip(self.buffers, buffers, strict=True)),
        }
        state.update({alias: state[name] for alias, name in self.shared.items()})
        out: Tensor = torch.func.functional_call(module, state, (x,), tie_weights=False)
        return out

    def trace(self, nodes: list[Node], *, trained: bool) -> Trace:
        inputs = [n for n in nodes if n.op == "placeholder"]
        outputs = list(nodes[-1].args[0])
        latest = _running_statistics(nodes)
        start, end = len(self.parameters), len(self.parameters) + len(self.buffers)
        buffers = dict(zip(self.buffers, inputs[start:end], strict=True))
        new = {n: latest.get(node, node) for n, node in zip(self.buffers, outputs[1:], strict=False)}
        counters = tuple(n for n, b in self.buffers.items() if not b.is_floating_point())
        return Trace(
            parameters=dict(zip(self.parameters, inputs[:start], strict=True)),
            buffers=buffers,
            x=inputs[end],
            logits=outputs[0],
            upstream=inputs[end + 1] if trained else None,
            new_buffers={n: node for n, node in new.items() if n not in counters},
            gradients=tuple(outputs[1 + len(self.buffers) :]),
            counters={n: _counts(new[n], n) if n in new else 0 for n in counters},
        )


def _shared_names(module: nn.Module) -> dict[str, str]:
    """Further places, as names, where a parameter or buffer hangs, with the name it goes by."""
    entries = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    places: set[tuple[int, str]] = set()
    aliases = {}
    for name, tensor in entries:
        owner, _, leaf = name.rpartition(".")
        place = id(module.get_submodule(owner)), leaf  # one module may be reached under two names
        if place not in places and first.setdefault(id(tensor), name) != name:
            aliases[name] = first[id(tensor)]
        places.add(place)
    return aliases


def _counts(node: Node, name: str) -> int:
    """How often a training pass adds one to an integer buffer."""
    if node.op == "aten.clone.default":
        return 0
    if node.op == "aten.add_.Tensor" and node.args[1] == 1:
        return 1 + _counts(node.args[0], name)
    raise refuse(node, f"the integer buffer {name!r} does something other than count the training passes")


def _running_statistics(nodes: Sequence[Node]) -> dict[Node, Node]:
    """The buffers' final values: batch norm changes its statistics in place, which a recording does not show."""
    latest: dict[Node, Node] = {}
    for node in nodes:
        if node.op == "aten.native_batch_norm.default" and node.args[5] and node.args[3] is not None:
            for i, part in ((3, "running_mean"), (4, "running_var")):
                buffer = node.args[i]
                args = (node, latest.get(buffer, buffer))
                shapes, dtypes = buffer.shapes, buffer.dtypes
                latest[buffer] = Node(node.name + part, part, args, {}, shapes, dtypes, node.module, node.line)
    return latest


@contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    before = {m: m.training for m in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for m, flag in before.items():
            m.training = flag


def _record(
    module: nn.Module, run: Callable[..., Any], names: _Names, samples: Callable[[int], tuple[Tensor, ...]]
) -> list[Node]:
    parameters, buffers = list(names.parameters.values()), list(names.buffers.values())
    graphs = []
    with named_modules(module), fx_traceback.preserve_node_meta(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch thinks of a leaf tensor inside a recording
        for size in _SIZES:
            record = make_fx(
                run, _DECOMPOSED, tracing_mode="fake", _allow_non_fake_inputs=True, record_stack_traces=True
            )
            try:
                graphs.append(record(parameters, buffers, *samples(size)))
            except Exception as error:  # torch and the user's own forward may raise anything
                raise ExportError(
                    f"the model cannot be recorded: {type(error).__name__}: {error}; its forward may not look at "
                    "values, only at shapes"
                ) from error
    return _merge(graphs[0], graphs[1])


def _merge(first: torch.fx.GraphModule, second: torch.fx.GraphModule) -> list[Node]:
    """Two recordings of one module as one list whose sizes depend on the batch size."""
    mine, others = list(first.graph.nodes), list(second.graph.nodes)
    if [str(n.target) for n in mine if n.op != "placeholder"] != [
        str(n.target) for n in others if n.op != "placeholder"
    ]:
        raise ExportError("the model runs other operators for another batch size; make its forward independent of it")
    nodes: dict[torch.fx.Node, Node] = {}
    for a, b in zip(mine, others, strict=True):
        nodes[a] = _merge_node(a, b, nodes, first)
    return list(nodes.values())


def _merge_node(
    a: torch.fx.Node, b: torch.fx.Node, nodes: Mapping[torch.fx.Node, Node], owner: torch.fx.GraphModule
) -> Node:
    values = [v if isinstance(v, tuple | list) else [v] for v in (a.meta.get("val"), b.meta.get("val"))]
    tensors = [
        (x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else None for x, y in zip(*values, strict=True)
    ]
    blank = Node(a.name, str(a.target), (), {}, (), (), *_origin(a, nodes))
    op = a.op if a.op != "call_function" else str(a.target)
    args, kwargs = _merge_value(a.args, b.args, nodes, blank), _merge_value(a.kwargs, b.kwargs, nodes, blank)
    return Node(
        name=a.name,
        op="getitem" if "getitem" in op else op,
        args=args,
        kwargs=kwargs,
        shapes=tuple(None if t is None else _merge_shape(t[0].shape, t[1].shape, blank) for t in tensors),
        dtypes=tuple(None if t is None else t[0].dtype for t in tensors),
        module=blank.module,
        line=blank.line,
        value=getattr(owner, str(a.target)) if a.op == "get_attr" else None,
    )


def _merge_value(a: Any, b: Any, nodes: Mapping[torch.fx.Node, Node], where: Node) -> Any:
    if isinstance(a, torch.fx.Node):
        return nodes[a]
    if isinstance(a, tuple | list):
        return tuple(_merge_value(x, y, nodes, where) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return {k: _merge_value(v, b[k], nodes, where) for k, v in a.items()}
    if a == b:
        return a
    if isinstance(a, int) and isinstance(b, int):
        return Rows(-_merge_size(a, b, where))
    raise refuse(where, f"its argument depends on the batch size: {a!r} for {_SIZES[0]} rows, {b!r} for {_SIZES[1]}")


def _merge_shape(a: Sequence[int], b: Sequence[int], where: Node) -> tuple[int, ...]:
    return tuple(_merge_size(int(x), int(y), where) for x, y in zip(a, b, strict=True))


def _merge_size(a: int, b: int, where: Node) -> int:
    """A size that may depend on the batch size: itself, or minus the factor."""
    if a == b:
        return a
    factor = a // _SIZES[0]
    if (a, b) != (factor * _SIZES[0], factor * _SIZES[1]):
        raise refuse(where, f"got sizes {a} and {b} for batches of {_SIZES[0]} and {_SIZES[1]}, expected a multiple")
    return -factor


def _origin(node: torch.fx.Node, nodes: Mapping[torch.fx.Node, Node]) -> tuple[str, str]:
    """Submodule and source line of an operator; one of the backward pass has those of what it differentiates."""
    module = node.meta.get("custom", {}).get("module")
    if module is not None:
        return module or _NAMELESS, user_line(node.meta.get("stack_trace") or "")
    for source in (*_forward_of(node), *node.all_input_nodes[::-1]):
        if source in nodes and nodes[source].module:
            return nodes[source].module, nodes[source].line
    return "", ""


def _forward_of(node: torch.fx.Node) -> list[torch.fx.Node]:
    """The operator of the forward pass that shares most inputs with one of the backward pass, if there is one."""
    shared: Counter[torch.fx.Node] = Counter()
    for source in node.all_input_nodes:
        shared.update(user for user in source.users if "module" in user.meta.get("custom", {}))
    return [user for user, _ in shared.most_common(1)]
