"""A torch module as three graphs of basic operators: inference, training forward, training backward.

torch's autograd makes the gradients; the recording is cut where the logits are done. All that a graph reads is input:
weights, running statistics, samples, dropout's random numbers, and what the forward graph saved for the backward one.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.traceback as fx_traceback
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from fedagg_edge.errors import ExportError
from fedagg_edge.export.executorch_rewrite import decompositions
from fedagg_edge.export.recording import named_modules, user_line

__all__ = ["Graphs", "origin", "record"]

_ROWS = 6  # the recording's batch; any number that is not 0 or 1
_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Graphs:
    """`infer` (parameters, buffers, x) -> logits. `forward` (parameters, buffers, noise, x) -> logits, new values of
    `changed_buffers`, saved values. `backward` -> gradients of the parameters.

    Parameters are those to train; frozen ones and counters count as buffers. `names` are both, in the canonical order.
    `noise` is there if the model has dropout: uniform numbers (N, `noise_columns`). `backward_inputs` name what
    `backward` takes: ``parameter:i``, ``buffer:i``, ``noise``, ``x``, ``output:i`` of `forward`, and ``upstream``,
    which is dLoss/dlogits. Saved masks are uint8.
    """

    names: tuple[str, ...]
    infer: fx.GraphModule
    forward: fx.GraphModule
    backward: fx.GraphModule
    changed_buffers: tuple[int, ...]
    backward_inputs: tuple[str, ...]
    noise_columns: int

    @property
    def output_dtypes(self) -> tuple[str, ...]:
        """What `forward` gives, as ``float32``."""
        outputs = self.forward.graph.find_nodes(op="output")[0].args[0]
        return tuple(str(node.meta["val"].dtype).removeprefix("torch.") for node in outputs)


def record(module: nn.Module, sample_shape: Sequence[int], classes: int) -> Graphs:
    """Record `module`. Raises ExportError if its forward looks at values, or uses the batch size but as a length."""
    names = _Names.of(module)
    with _mode(module, training=False):
        infer, _ = _trace(module, names, [sample_shape], lambda state, noise, x: [_call(module, state, x)])
    with _mode(module, training=True):
        joint, columns = _trace_joint(module, names, sample_shape, classes, 0)
        if columns:  # only now is it known how many random numbers a sample needs
            joint, _ = _trace_joint(module, names, sample_shape, classes, columns)
    labels = names.labels() + (["noise"] if columns else []) + ["x", "upstream"]
    changed = _keep_changed(joint, len(names.buffers))
    forward, backward, taken = _cut(joint, labels, 1 + len(changed))
    return Graphs((*names.parameters, *names.buffers), infer, forward, backward, changed, taken, columns)


@dataclass(frozen=True, slots=True)
class _Names:
    """What a recorded function's inputs are called, in order, and their values: parameters to train, then the rest."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]

    @staticmethod
    def of(module: nn.Module) -> _Names:
        trained = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
        frozen = {n: p.detach() for n, p in module.named_parameters() if not p.requires_grad}
        floats = {n: b for n, b in module.named_buffers() if b.is_floating_point()}
        counters = {n: b for n, b in module.named_buffers() if not b.is_floating_point()}
        return _Names(trained, {**frozen, **floats, **counters})

    def labels(self) -> list[str]:
        parameters = [f"parameter:{i}" for i in range(len(self.parameters))]
        return parameters + [f"buffer:{i}" for i in range(len(self.buffers))]


@dataclass(frozen=True, slots=True)
class _Joint:
    """Forward and backward pass in one function."""

    module: nn.Module
    names: _Names
    columns: int

    def run(self, state: dict[str, Tensor], noise: _Noise, *inputs: Tensor) -> list[Tensor]:
        if self.columns:
            noise.values, *inputs = inputs  # type: ignore[assignment]
        x, upstream = inputs
        logits = _call(self.module, state, x)
        parameters = [state[n] for n in self.names.parameters]
        found = torch.autograd.grad(logits, parameters, upstream, allow_unused=True)
        gradients = [_or_zeros(g, p) for g, p in zip(found, parameters, strict=True)]
        return [logits, *(state[n] for n in self.names.buffers), *gradients]


def _or_zeros(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """The logits may not depend on a parameter."""
    return torch.zeros_like(parameter) if gradient is None else gradient


class _Noise:
    """Dropout's random numbers: an input, of which each dropout takes its own columns."""

    def __init__(self) -> None:
        self.values: Tensor | None = None
        self.columns = 0

    def bernoulli_(self, x: Tensor, p: float = 0.5, *, generator: Any = None) -> Tensor:
        """aten.bernoulli_.float: one where a uniform number lies below `p`."""
        return x.copy_(self._below(x, p))

    def dropout(self, x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
        """aten.native_dropout: the values and what was kept."""
        if train is False:
            return x, torch.ones_like(x, dtype=torch.bool)
        kept = self._below(x, 1 - p)
        return x * kept.to(x.dtype) * (1 / (1 - p) if p < 1 else 0.0), kept

    def _below(self, x: Tensor, p: float) -> Tensor:
        start, self.columns = self.columns, self.columns + math.prod(int(n) for n in x.shape[1:])
        if self.values is None:
            return torch.ones_like(x, dtype=torch.bool)
        return self.values[:, start : self.columns].reshape(x.shape) < p


def _trace_joint(
    module: nn.Module, names: _Names, sample_shape: Sequence[int], classes: int, columns: int
) -> tuple[fx.GraphModule, int]:
    """The training pass as a graph, and how many random numbers a sample needs."""
    noise = [(columns,)] if columns else []
    return _trace(module, names, [*noise, sample_shape, (classes,)], _Joint(module, names, columns).run)


def _call(module: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    logits: Tensor = torch.func.functional_call(module, state, (x,))
    return logits


def _trace(
    module: nn.Module,
    names: _Names,
    inputs: Sequence[Sequence[int]],
    run: Callable[..., list[Tensor]],
) -> tuple[fx.GraphModule, int]:
    """`run` (state, noise, *inputs) as a graph, the first axis of `inputs` a batch of any size; columns of noise."""
    noise = _Noise()
    table: dict[Any, Callable[..., Any]] = {
        **decompositions(),
        _aten.bernoulli_.float: noise.bernoulli_,
        _aten.native_dropout.default: noise.dropout,
    }
    count = len(names.parameters)

    def function(*tensors: Tensor) -> list[Tensor]:
        parameters = [t.detach().requires_grad_() for t in tensors[:count]]
        buffers = [t.clone() for t in tensors[count : len(names.labels())]]  # a module may change them in place
        state = [*parameters, *buffers]
        return run(dict(zip([*names.parameters, *names.buffers], state, strict=True)), noise, *tensors[len(state) :])

    try:
        with _recording(), named_modules(module):
            fakes = _fakes([*names.parameters.values(), *names.buffers.values()], inputs)
            graph = _named(make_fx(function, table, record_stack_traces=True), fakes)
            replay = torch.func.functionalize(fx.Interpreter(graph).run)  # what works in place becomes pure
            graph = make_fx(replay, record_stack_traces=True)(*fakes)
    except ExportError:
        raise
    except Exception as error:  # torch and the user's own forward may raise anything
        raise ExportError(
            f"the model cannot be recorded: {type(error).__name__}: {error}; its forward may look at shapes, "
            "not at values"
        ) from error
    _simplify(graph.graph)
    return graph, noise.columns


def _named(recorder: Callable[..., fx.GraphModule], fakes: Sequence[Tensor]) -> fx.GraphModule:
    """Record; a refusal on the way says in which submodule."""
    try:
        return recorder(*fakes)
    except ExportError as error:
        name = fx_traceback.get_current_meta().get("custom", {}).get("module")
        raise ExportError(f"{error} (in submodule {name!r})" if name else str(error)) from error


@contextmanager
def _recording() -> Iterator[None]:
    with enable_python_dispatcher(), fx_traceback.preserve_node_meta(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch thinks of a leaf tensor inside a recording
        yield


def _simplify(graph: fx.Graph) -> None:
    """Take out what is there for autograd's sake or because of changes in place: nothing in this graph is changed."""
    for node in graph.nodes:
        if node.target in (_aten.detach.default, _aten.alias.default) or (
            node.target is _aten.clone.default and node.args[0].op == "placeholder"
        ):
            node.replace_all_uses_with(node.args[0])
        elif node.target is _aten.view.default:
            node.target = _aten.reshape.default  # what crosses from graph to graph arrives contiguous
        elif node.target is _aten.copy.default and _same_type(*node.args[:2]):
            node.replace_all_uses_with(node.args[1])
    graph.eliminate_dead_code()


def _same_type(a: fx.Node, b: fx.Node) -> bool:
    left, right = a.meta["val"], b.meta["val"]
    return bool(left.shape == right.shape and left.dtype == right.dtype)


def _fakes(state: Sequence[Tensor], inputs: Sequence[Sequence[int]]) -> list[Tensor]:
    """Stand-ins for the tensors: real shapes but for a batch of any size, no values."""
    shapes = ShapeEnv()
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    out: list[Tensor] = []
    for i, tensor in enumerate([*state, *(torch.empty(_ROWS, *shape) for shape in inputs)]):
        sizes = [DimDynamic.STATIC] * tensor.dim()
        if i >= len(state):
            sizes[0] = DimDynamic.DUCK  # all batches are the same size
        out.append(mode.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes)))
    return out


@contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    before = {m: m.training for m in module.modules()}
    for m, flag in before.items():  # a part that is frozen in evaluation mode stays so
        m.training = training and (flag or not before[module])
    try:
        yield
    finally:
        for m, flag in before.items():
            m.training = flag


def origin(node: fx.Node) -> str:
    """Where an operator came from, as words: its submodule and the user's line, as far as they are known."""
    name = node.meta.get("custom", {}).get("module")
    where = "" if name is None else f" in submodule {name!r}" if name else " in the model itself"
    line = user_line(node.meta.get("stack_trace") or "")
    return f"{where} at {line}" if line else where


# ---- cutting the recording in two


def _keep_changed(joint: fx.GraphModule, buffers: int) -> tuple[int, ...]:
    """Drop from the results the buffers that a training pass leaves alone; return the numbers of the others."""
    node = joint.graph.find_nodes(op="output")[0]
    results = list(node.args[0])
    changed = tuple(i for i in range(buffers) if results[1 + i].op != "placeholder")
    node.args = ([results[0], *(results[1 + i] for i in changed), *results[1 + buffers :]],)
    return changed


def _cut(
    joint: fx.GraphModule, labels: Sequence[str], outputs: int
) -> tuple[fx.GraphModule, fx.GraphModule, tuple[str, ...]]:
    """Forward graph, backward graph, names of the latter's inputs. The first `outputs` results are the forward's."""
    results = list(joint.graph.find_nodes(op="output")[0].args[0])
    first, last = results[:outputs], results[outputs:]
    inputs = dict(zip(joint.graph.find_nodes(op="placeholder"), labels, strict=True))
    early = _ancestors(first)
    early |= {n for n in joint.graph.nodes if n.target is operator.getitem and n.args[0] in early}
    late = _ancestors(last, lengths=False)
    _pack_masks(joint.graph, early, late, inputs)
    saved = _borders(joint.graph, early, late, inputs)
    kept = [n for n in saved if n not in inputs]
    out = [*first, *(n for n in kept if n not in first)]
    forward = _extract(joint, [n for n in inputs if inputs[n] != "upstream"], out)
    upstream = next(n for n, label in inputs.items() if label == "upstream")
    given = [*saved, *([] if upstream in saved else [upstream])]
    taken = tuple(inputs[n] if n in inputs else f"output:{out.index(n)}" for n in given)
    return forward, _extract(joint, given, last, upstream), taken


def _ancestors(
    nodes: Sequence[fx.Node], *, lengths: bool = True, given: frozenset[fx.Node] = frozenset()
) -> set[fx.Node]:
    """`nodes` and what they are made of, up to `given`; without `lengths`, not what only lengths are asked of."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found and node not in given:
            found.add(node)
            waiting += node.all_input_nodes if lengths or not _is_size(node) else []
    return found


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt)


def _borders(graph: fx.Graph, early: set[fx.Node], late: set[fx.Node], inputs: Mapping[fx.Node, str]) -> list[fx.Node]:
    """Inputs and forward values that operators of the backward pass read, in order."""
    wanted = {
        source
        for node in late
        if node not in early and node not in inputs and not _is_size(node)
        for source in node.all_input_nodes
        if (source in early or source in inputs) and not _is_size(source)
    }
    wanted |= {n for n in late if n in inputs and inputs[n] == "upstream"}
    return [n for n in graph.nodes if n in wanted]


def _pack_masks(graph: fx.Graph, early: set[fx.Node], late: set[fx.Node], inputs: Mapping[fx.Node, str]) -> None:
    """Let booleans cross as uint8: a Java `Tensor` of ExecuTorch holds no booleans. `early` and `late` grow."""
    for node in _borders(graph, early, late, inputs):
        if node in inputs or node.meta["val"].dtype is not torch.bool:
            continue
        with graph.inserting_after(node):
            packed = graph.call_function(_aten._to_copy.default, (node,), {"dtype": torch.uint8})
        with graph.inserting_after(packed):
            mask = graph.call_function(_aten.ne.Scalar, (packed, 0))
        packed.meta, mask.meta = {**node.meta, "val": node.meta["val"].to(torch.uint8)}, dict(node.meta)
        node.replace_all_uses_with(mask, delete_user_cb=lambda user: user in late and user not in early)
        early.add(packed)
        late.update((packed, mask))


def _extract(
    joint: fx.GraphModule,
    inputs: Sequence[fx.Node],
    outputs: Sequence[fx.Node],
    batch: fx.Node | None = None,
) -> fx.GraphModule:
    """The part of a graph from `inputs` to `outputs`. Lengths are asked of `batch`, if it is given."""
    graph = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    for node in inputs:
        mapping[node] = graph.placeholder(node.name)
        mapping[node].meta = dict(node.meta)
    rows = graph.call_function(_aten.sym_size.int, (mapping[batch], 0)) if batch is not None else None
    needed = _ancestors(outputs, lengths=batch is None, given=frozenset(inputs))
    for node in joint.graph.nodes:
        if node in mapping or node not in needed:
            continue
        if rows is not None and _is_size(node):
            mapping[node] = _multiple(graph, node, rows)
        else:
            mapping[node] = graph.node_copy(node, mapping.__getitem__)
    graph.output(tuple(mapping[n] for n in outputs))
    graph.eliminate_dead_code()
    return fx.GraphModule(joint, graph)


def _multiple(graph: fx.Graph, node: fx.Node, rows: fx.Node) -> fx.Node:
    """A length as a multiple of the batch's."""
    expression = node.meta["val"].node.expr
    symbols = list(expression.free_symbols)
    factor = expression / symbols[0] if len(symbols) == 1 else None
    if factor is None or not factor.is_integer or not factor.is_number:
        raise ExportError(
            f"operator {node.target}{origin(node)}: got a length of {expression}, expected a multiple of rows"
        )
    return rows if factor == 1 else graph.call_function(operator.mul, (rows, int(factor)))
