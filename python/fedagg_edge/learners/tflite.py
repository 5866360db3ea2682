"""The learner of devices: a training file, a TFLite runtime of a few megabytes and NumPy. No torch here.

The file's graph computes logits and gradients, dLoss/dlogits included; the losses that are reported are the C++
kernel's, the update that of every engine. Weights live in one flat array, in and out of the graph at every step, so
that a state is a copy and a failed step changes nothing.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import LearnerError
from fedagg_edge.kernels import DistillLoss
from fedagg_edge.learners import objective, targets, tflite_file, tflite_runtime
from fedagg_edge.learners.base import Batch, StepReport
from fedagg_edge.learners.exported import ExportedLearner
from fedagg_edge.learners.targets import Targets
from fedagg_edge.learners.tflite_file import TrainingFile
from fedagg_edge.learners.tflite_runtime import Graphs, Pass, Runtime

__all__ = ["TfliteLearner"]

_EVAL_ROWS = 64  # bounds the activations of an evaluation pass

Array = NDArray[np.float32]


class TfliteLearner(ExportedLearner[TrainingFile]):
    """Trains what a training file holds, starting from the weights in it.

    `file`: a path, the file's bytes or a `TrainingFile`. `classes` and `sample_shape`, where given, must be the file's.
    `runtime`: ``ai-edge-litert`` or ``tflite-runtime``, by default the first that works. `threads` of the runtime.
    `rejected_steps` counts the steps whose loss was not finite.

    Raises ArtefactError for a file that is damaged, foreign or of another model, LearnerError if no runtime is there.
    It is loaded, 10 MB of a device's memory, when something is first computed: a device whose parent is away, or that
    has no samples yet, does without. One that is there but cannot be used is a LearnerError then.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | bytes | TrainingFile,
        optimizer: str = "sgd",
        *,
        classes: int | None = None,
        sample_shape: tuple[int, ...] | None = None,
        runtime: str | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(_training_file(file), optimizer, classes=classes, sample_shape=sample_shape)
        tflite_runtime.refuse_if_none(runtime)
        self._threads, self._prefer = threads, runtime
        self._opened: Graphs | None = None
        self._seen = len(self._weights) - len(self._file.counted)  # what the graphs take: all but the counters

    @property
    def _graphs(self) -> Graphs:
        if self._opened is None:
            self._opened = tflite_runtime.open_graphs(self._file, self._threads, self._prefer)
        return self._opened

    @property
    def runtime(self) -> Runtime:
        """The runtime in use."""
        return self._graphs.runtime

    def logits(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Learner.logits`; raise LearnerError for samples of another shape."""
        self._check_samples(x_N)
        weights = self._weights[: self._seen]
        parts = [self._graphs.infer(x_N[i : i + _EVAL_ROWS], weights) for i in range(0, len(x_N), _EVAL_ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, self._file.classes), np.float32)

    def step(self, batch: Batch, hyperparameters: Hyperparameters) -> StepReport:
        """See `Learner.step`; raise LearnerError for a batch that does not fit the file."""
        if hyperparameters.distillation != "classical":
            raise LearnerError(
                f"distillation: got {hyperparameters.distillation!r}, a training file has the classical one"
            )
        trial = _Trial(self, self._weights[: self._seen].copy())
        try:
            if self._file.rows_apart and batch.private_x_N is not None and len(batch.bridge_x_N):
                trial.joined(batch, hyperparameters)
            else:
                trial.apart(batch, hyperparameters)
        except (IndexError, RuntimeError, TypeError, ValueError):
            batch.check(self._file.classes)
            raise
        report = objective.report(trial.private, trial.bridge)
        self._check_finite(report, trial.gradient, trial.weights[self._trained :])
        self._weights[: self._seen] = trial.weights
        self._weights[self._seen :] += trial.passes * self._file.counted
        self._optimizer.update(self._weights[: self._trained], [trial.gradient], hyperparameters)
        return report

    def _train(self, x_N: Array, weights: Array, targets: Targets) -> Pass:
        """A pass with `weights`, into which its new buffers go."""
        self._check_samples(x_N)
        done = self._graphs.train(x_N, weights, self._masks(len(x_N)), targets)
        if done.buffers is not None:
            weights[self._trained :] = done.buffers
        return done

    def _masks(self, rows: int) -> dict[str, Array]:
        """New masks of a training pass, by name."""
        return {
            m.name: (self._rng.random((rows, *m.shape), np.float32) < m.keep).astype(np.float32)
            for m in self._file.masks
        }


class _Trial:
    """One step up to its gradient, on a copy of the weights that is kept only if the loss is finite."""

    def __init__(self, learner: TfliteLearner, weights: Array) -> None:
        self._learner = learner
        self.weights = weights
        self.gradient = np.zeros(learner._trained, np.float32)
        self.private: DistillLoss | None = None
        self.bridge: DistillLoss | None = None
        self.passes = 0

    def joined(self, batch: Batch, hyperparameters: Hyperparameters) -> None:
        """Private and bridge rows as one batch: half as many runs of the graph."""
        private_x_N, classes = batch.private_x_N, self._learner._file.classes
        if private_x_N is None:
            raise LearnerError("batch: got no private samples to join")
        x_N, count = np.concatenate([private_x_N, batch.bridge_x_N]), len(private_x_N)
        done = self._pass(x_N, targets.joint_targets(batch, hyperparameters, classes))
        self.private = objective.private_loss(done.logits_NC[:count], batch)
        self.bridge = objective.bridge_loss(done.logits_NC[count:], batch, hyperparameters)
        self.passes = 2

    def apart(self, batch: Batch, hyperparameters: Hyperparameters) -> None:
        """The private batch, then the bridge batch: a batch norm sees each on its own."""
        classes = self._learner._file.classes
        if batch.private_x_N is not None:
            done = self._pass(batch.private_x_N, targets.private_targets(batch, classes))
            self.private = objective.private_loss(done.logits_NC, batch)
        if len(batch.bridge_x_N):
            done = self._pass(batch.bridge_x_N, targets.bridge_targets(batch, hyperparameters, classes))
            self.bridge = objective.bridge_loss(done.logits_NC, batch, hyperparameters)

    def _pass(self, x_N: Array, wanted: Targets) -> Pass:
        done = self._learner._train(x_N, self.weights, wanted)
        self.passes += 1
        if self.passes == 1:
            self.gradient = done.gradient
        else:
            self.gradient += done.gradient
        return done


def _training_file(file: str | os.PathLike[str] | bytes | TrainingFile) -> TrainingFile:
    if isinstance(file, TrainingFile):
        return file
    return tflite_file.loads(file) if isinstance(file, bytes) else tflite_file.load(file)
