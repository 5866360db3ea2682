"""The ExecuTorch learner: a training program, its runtime and torch's tensors; no torch operator computes anything.

The program computes logits and gradients; the loss is the C++ kernel's, the update that of every device. Weights live
in one flat array, in and out of the program at every step, so that a state is a copy and a failed step changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import LearnerError
from fedagg_edge.kernels import DistillLoss
from fedagg_edge.learners import executorch_file, objective
from fedagg_edge.learners.base import Batch, StepReport
from fedagg_edge.learners.executorch_file import TrainingProgram
from fedagg_edge.learners.executorch_runtime import Program
from fedagg_edge.learners.exported import ExportedLearner

__all__ = ["ExecutorchLearner"]

Array = NDArray[np.float32]
LossOf = Callable[[Array], DistillLoss]


class ExecutorchLearner(ExportedLearner[TrainingProgram]):
    """Trains what a training program holds, starting from the weights in it.

    `file`: a path, the file's bytes or a `TrainingProgram`. `classes` and `sample_shape`, where given, must be its own.
    `rejected_steps` counts the steps whose loss was not finite.

    Raises ArtefactError for a file that is damaged, foreign or of another model, LearnerError without ExecuTorch.
    """

    kind = "training program"

    def __init__(
        self,
        file: str | os.PathLike[str] | bytes | TrainingProgram,
        optimizer: str = "sgd",
        *,
        classes: int | None = None,
        sample_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(_opened(file), optimizer, classes=classes, sample_shape=sample_shape)
        self._program = Program(self._file.content)

    def logits(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Learner.logits`; raise LearnerError for samples of another shape."""
        self._check_samples(x_N)
        state, size = self._inputs(), self._file.rows
        parts = [self._infer(state, x_N[i : i + size]) for i in range(0, len(x_N), size)]
        return np.concatenate(parts) if parts else np.empty((0, self._file.classes), np.float32)

    def step(self, batch: Batch, hyperparameters: Hyperparameters) -> StepReport:
        """See `Learner.step`; raise LearnerError for samples of another shape, or more than the program's rows."""
        trial = _Trial(self)
        private = bridge = None
        if batch.private_x_N is not None:
            private = trial.add(batch.private_x_N, lambda logits_NC: objective.private_loss(logits_NC, batch))
        if len(batch.bridge_x_N):
            bridge = trial.add(
                batch.bridge_x_N, lambda logits_NC: objective.bridge_loss(logits_NC, batch, hyperparameters)
            )
        report = objective.report(private, bridge)
        self._check_finite(report, trial.gradient.numpy(), trial.buffers())
        self._weights[self._trained :] = trial.buffers()
        self._optimizer.update(self._weights[: self._trained], [trial.gradient.numpy()], hyperparameters)
        return report

    def _check_rows(self, x_N: Array) -> None:
        self._check_samples(x_N)
        if len(x_N) > self._file.rows:
            raise LearnerError(
                f"batch: got {len(x_N)} samples, this program takes at most {self._file.rows}; lower batch_size, or "
                "export the model with more rows"
            )

    def _infer(self, state: list[Tensor], x_N: Array) -> Array:
        out: Array = self._program.run("infer", [*state, _tensor(x_N)])[0].numpy().copy()
        return out

    def _inputs(self) -> list[Tensor]:
        """Weights and buffers as the program takes them; float32 ones are views of the flat array."""
        flat, start, out = torch.from_numpy(self._weights), 0, []
        for entry, dtype in zip(self._file.table, self._file.dtypes, strict=True):
            out.append(flat[start : start + entry.size].view(entry.shape).to(getattr(torch, dtype)))
            start += entry.size
        return out

    def _noise(self, rows: int) -> Array:
        """Random numbers of a training pass, for dropout."""
        return self._rng.random((rows, self._file.noise_columns), np.float32)


class _Trial:
    """One step up to its gradient, on buffers of its own that are kept only if the loss is finite."""

    def __init__(self, learner: ExecutorchLearner) -> None:
        self._learner = learner
        self._file = learner._file
        self._state = learner._inputs()
        self._parameters = sum(e.trained for e in self._file.table)
        self.gradient = torch.zeros(learner._trained)

    def add(self, x_N: Array, loss_of: LossOf) -> DistillLoss:
        """Forward pass, loss, backward pass of one batch: the gradient adds up, the buffers move on."""
        self._learner._check_rows(x_N)
        given = {"x": _tensor(x_N)}
        if self._file.noise_columns:
            given["noise"] = _tensor(self._learner._noise(len(x_N)))
        program = self._learner._program
        noise = [given["noise"]] if "noise" in given else []
        outputs = program.run("forward", [*self._state, *noise, given["x"]])
        loss = loss_of(np.ascontiguousarray(outputs[0].numpy()))
        given["upstream"] = torch.from_numpy(loss.gradient_NC)
        taken = [given[n] if n in given else self._find(n, outputs) for n in self._file.backward_inputs]
        parts = program.run("backward", taken)
        self.gradient += torch.cat([part.reshape(-1) for part in parts])
        for i, new in zip(self._file.changed_buffers, outputs[1:], strict=False):
            self._state[self._parameters + i] = new.clone()
        return loss

    def _find(self, name: str, outputs: list[Tensor]) -> Tensor:
        kind, _, number = name.partition(":")
        if kind == "output":
            return outputs[int(number)]
        return self._state[int(number) + (self._parameters if kind == "buffer" else 0)]

    def buffers(self) -> Array:
        """What is not trained, flat."""
        rest = [t.reshape(-1).to(torch.float32) for t in self._state[self._parameters :]]
        return torch.cat(rest).numpy() if rest else np.empty(0, np.float32)


def _tensor(array: Array) -> Tensor:
    """The array's memory as a tensor; one that is read-only or has gaps is copied."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _opened(file: str | os.PathLike[str] | bytes | TrainingProgram) -> TrainingProgram:
    if isinstance(file, TrainingProgram):
        return file
    return executorch_file.loads(file) if isinstance(file, bytes) else executorch_file.load(file)
