"""The torch learner: edges, the cloud, the simulator, and the reference for every other engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import LearnerError
from fedagg_edge.kernels import DistillLoss
from fedagg_edge.learners import objective
from fedagg_edge.learners.base import Batch, LearnerFactory, LearnerSpec, LearnerState, StepReport
from fedagg_edge.learners.batch_norm import figures_anew
from fedagg_edge.learners.flat import FlatModule
from fedagg_edge.learners.optimizers import make_optimizer
from fedagg_edge.learners.small_maps import speed_up
from fedagg_edge.learners.split_norm import norms_of, on_bridge, set_moves, split_norms
from fedagg_edge.learners.zoo import build_model, check_model

__all__ = ["TorchLearner", "make_learner", "module_factory", "seeded_model", "set_threads"]

_DROPOUT = torch.nn.modules.dropout._DropoutNd  # the base of all kinds of dropout
_EVAL_ROWS = 512  # bounds the activations of an evaluation pass


class TorchLearner:
    """Trains a torch module: the C++ kernel turns logits into dLoss/dlogits, ``logits.backward`` takes it from there.

    The private and the bridge batch go through the model apart, as in the authors' code: a batch norm sees each on its
    own. `module` float32 (N, *sample_shape) -> (N, classes). `precision`: what convolutions and matrix products compute
    in; weights, their update, batch norms' figures and the loss are float32 in any case (torch's autocast).
    """

    def __init__(
        self, module: torch.nn.Module, optimizer: str = "sgd", precision: Literal["float32", "bfloat16"] = "float32"
    ) -> None:
        self._precision = getattr(torch, precision)
        speed_up(module)
        self._flat = FlatModule(module)
        self._optimizer = make_optimizer(optimizer, self._flat.trained)
        # the same memory as the tensors', for the update without torch
        self._trained_P = self._flat.values[: self._flat.trained].numpy()
        self._module = module.train()
        self._norms = norms_of(module)

    @property
    def module(self) -> torch.nn.Module:
        """The module, whose weights this learner trains in place."""
        return self._module

    @property
    def draws_shared(self) -> bool:
        """See `DrawsShared`: whether the module has dropout; randomness of a user's own layers is not seen."""
        return any(getattr(m, "p", 0) and isinstance(m, _DROPOUT) for m in self._module.modules())

    @property
    def flat(self) -> FlatModule:
        """The module's flat buffers, for a stacked step (`learners.stacked`)."""
        return self._flat

    def apply_gradient(self, gradient_P: NDArray[np.float32], hyperparameters: Hyperparameters) -> None:
        """One update from a gradient computed elsewhere, float32 over the trained entries in the table's order."""
        self._optimizer.update(self._trained_P, [gradient_P], hyperparameters)

    def logits(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Learner.logits`."""
        self._module.eval()
        try:
            with torch.inference_mode():
                starts = range(0, max(1, len(x_N)), _EVAL_ROWS)
                parts = [self._run(x_N[i : i + _EVAL_ROWS]).numpy() for i in starts]
        finally:
            self._module.train()
        return np.ascontiguousarray(np.concatenate(parts))

    def bridge_logits(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `TellsBridge.bridge_logits`; as `logits` but where the model's batch norm is split."""
        with on_bridge(self._norms):
            return self.logits(x_N)

    def measure_norms(self, batches: Iterable[tuple[NDArray[np.float32], bool]]) -> None:
        """See `MeasuresNorms.measure_norms`."""
        with figures_anew(self._module):
            for x_N, is_bridge in batches:
                with on_bridge(self._norms if is_bridge else ()):
                    self._run(x_N)

    def step(self, batch: Batch, hyperparameters: Hyperparameters) -> StepReport:
        """See `Learner.step`."""
        with self._flat.untrained_kept_on_error():
            report, outputs, losses = self._losses(batch, hyperparameters)
            gradients = self._backward(outputs, losses)
        self._optimizer.update(self._trained_P, gradients, hyperparameters)
        return report

    def _losses(
        self, batch: Batch, hyperparameters: Hyperparameters
    ) -> tuple[StepReport, list[torch.Tensor], list[DistillLoss]]:
        """The forward passes and their losses; raise LearnerError for a loss that is not finite."""
        outputs, losses = [], []
        private = bridge = None
        set_moves(self._norms, 2 if batch.private_x_N is not None and len(batch.bridge_x_N) else 1)
        if batch.private_x_N is not None:
            logits_NC = self._forward(batch.private_x_N)
            private = objective.private_loss(_numpy(logits_NC), batch)
            outputs.append(logits_NC)
            losses.append(private)
        if len(batch.bridge_x_N):
            with on_bridge(self._norms):
                logits_NC = self._forward(batch.bridge_x_N)
            bridge = objective.bridge_loss(_numpy(logits_NC), batch, hyperparameters)
            outputs.append(logits_NC)
            losses.append(bridge)
        report = objective.report(private, bridge)
        if not math.isfinite(report.loss):
            raise LearnerError(
                f"the loss became {report.loss} after {self._optimizer.steps} steps; the weights are those before it; "
                "lower learning_rate, or check that samples are on the model's input scale"
            )
        return report, outputs, losses

    def _run(self, x_N: NDArray[np.float32]) -> torch.Tensor:
        """The module's logits, float32."""
        if self._precision is torch.float32:
            out: torch.Tensor = self._module(_tensor(x_N))
            return out
        with torch.autocast("cpu", self._precision):
            out = self._module(_tensor(x_N))
        return out.float()

    def _forward(self, x_N: NDArray[np.float32]) -> torch.Tensor:
        try:
            out = self._run(x_N)
        except ValueError as e:
            if len(x_N) > 1 or "more than 1 value per channel" not in str(e):
                raise
            raise LearnerError(
                "one sample alone cannot train this model: its batch norm sees one value a channel; "
                "give every device two samples or more (partition option min_samples), or use batch_size 2 or more"
            ) from e
        return out

    def _backward(self, outputs: list[torch.Tensor], losses: list[DistillLoss]) -> list[NDArray[np.float32]]:
        """The gradients, flat, in the table's order; raise LearnerError if one is not finite, though the loss was."""
        self._flat.drop_gradients()  # of a pass that raised, or of a user's own
        torch.autograd.backward(outputs, [torch.from_numpy(loss.gradient_NC) for loss in losses])
        gradients = self._flat.take_gradients()
        # one pass over memory: infinities that cancel leave NaN, and finite values only overflow where training is lost
        if not math.isfinite(sum(float(gradient.sum()) for gradient in gradients)):
            raise LearnerError(
                f"the gradient became infinite or NaN after {self._optimizer.steps} steps; the weights are those "
                "before it; lower learning_rate, or look for a square root or a division at 0 in the model"
            )
        return [gradient.numpy() for gradient in gradients]

    def state(self) -> LearnerState:
        """See `Learner.state`."""
        slots = {name: values.copy() for name, values in self._optimizer.slots.items()}
        return LearnerState(self._flat.table, self._flat.copy_out(), slots, self._optimizer.steps)

    def look(self) -> LearnerState:
        """See `Looks`."""
        return LearnerState(self._flat.table, self._flat.look(), dict(self._optimizer.slots), self._optimizer.steps)

    def load_state(self, state: LearnerState) -> None:
        """See `Learner.load_state`."""
        if state.table != self._flat.table:
            raise LearnerError(_table_difference(state, self._flat))
        if state.slots and set(state.slots) != set(self._optimizer.slots):
            raise LearnerError(
                f"state: got optimizer slots {sorted(state.slots)}, this learner has {sorted(self._optimizer.slots)}; "
                "use the optimizer that the state was made with"
            )
        self._flat.copy_in(state.weights)
        for name, slot in self._optimizer.slots.items():  # a state without slots starts with empty ones
            slot[:] = state.slots.get(name, 0.0)
        self._optimizer.steps = state.steps

    def seed(self, seed: int) -> None:
        """See `Learner.seed`; torch's dropout draws from the process's generator."""
        torch.manual_seed(seed)


def _tensor(array: NDArray[np.float32]) -> torch.Tensor:
    """The array's memory as a tensor; a read-only array is copied, because torch has no such tensors."""
    return torch.from_numpy(np.require(array, requirements=["W"]))


def _numpy(logits_NC: torch.Tensor) -> NDArray[np.float32]:
    """The logits' memory as a C-contiguous array."""
    array: NDArray[np.float32] = logits_NC.detach().contiguous().numpy()
    return array


def _table_difference(state: LearnerState, flat: FlatModule) -> str:
    """Say where two models' tables part."""
    for got, own in zip(state.table, flat.table, strict=False):
        if got != own:
            return f"state: got {got.name!r} {got.shape}, this model has {own.name!r} {own.shape} in its place"
    return f"state: got {len(state.table)} arrays, this model has {len(flat.table)}"


def make_learner(spec: LearnerSpec) -> TorchLearner:
    """A `LearnerFactory`: build the model, its weights drawn from `seed`; torch's own random state is left alone."""
    return TorchLearner(seeded_model(spec), spec.hyperparameters.optimizer, spec.hyperparameters.precision)


def seeded_model(spec: LearnerSpec) -> torch.nn.Module:
    """`build_model` with the weights drawn from the seed."""
    model = spec.model
    with _weights_from(spec.seed):
        module = build_model(model.builder, spec.sample_shape, spec.classes, base_dir=spec.base_dir, **model.options)
    return split_norms(module) if model.batch_norm == "split" else module


def module_factory(build: Callable[..., torch.nn.Module]) -> LearnerFactory:
    """A `LearnerFactory` around a function ``build(sample_shape=..., classes=..., **options)`` given from Python."""

    def factory(spec: LearnerSpec) -> TorchLearner:
        with _weights_from(spec.seed):
            module = build(sample_shape=spec.sample_shape, classes=spec.classes, **spec.model.options)
            name = getattr(build, "__name__", "function")
            check_model(module, name, spec.sample_shape, spec.classes)  # makes lazy layers
            if spec.model.batch_norm == "split":
                module = split_norms(module)
        return TorchLearner(module, spec.hyperparameters.optimizer, spec.hyperparameters.precision)

    return factory


def set_threads(count: int) -> None:
    """Let torch use `count` threads in this process from now on."""
    torch.set_num_threads(count)


@contextmanager
def _weights_from(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
