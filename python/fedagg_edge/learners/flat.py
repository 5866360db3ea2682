"""A torch module laid over one flat float32 buffer.

One buffer makes an update one pass over memory however many layers there are, and a saved state one copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.base import Entry

__all__ = ["FlatModule"]


class FlatModule:
    """Moves a module's parameters and float buffers into one flat buffer, of which they become views.

    Trained parameters come first, then frozen ones (``requires_grad`` is off), then float buffers, each in torch's
    order; integer buffers (a batch counter) stay in the module and travel as float32. Raises LearnerError for
    parameters that are not float32, and for a module that has none to train.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        frozen = [(n, p) for n, p in module.named_parameters() if not p.requires_grad]
        buffers = [(n, b) for n, b in module.named_buffers() if b.is_floating_point()]
        for name, tensor in [*trained, *frozen, *buffers]:
            if tensor.dtype != torch.float32:
                raise LearnerError(f"parameter {name!r}: got {tensor.dtype}, expected float32; call module.float()")
        if not trained:
            raise LearnerError(f"model {type(module).__name__}: got no parameters to train, expected at least one")
        rest = [*frozen, *buffers]
        self._counters = [(n, b) for n, b in module.named_buffers() if not b.is_floating_point()]
        self.trained = sum(p.numel() for _, p in trained)
        counters = [b.reshape(-1).to(torch.float32) for _, b in self._counters]
        self._all = torch.cat([*(t.detach().reshape(-1) for _, t in [*trained, *rest]), *counters])
        self.values = self._all[: len(self._all) - sum(len(c) for c in counters)]
        self.table = (
            *(Entry(n, tuple(t.shape), trained=True) for n, t in trained),
            *(Entry(n, tuple(t.shape), trained=False) for n, t in rest),
            *(Entry(n, tuple(t.shape), trained=False) for n, t in self._counters),
        )
        self._trained = [p for _, p in trained]
        self._relocate([p for _, p in frozen], buffers)

    def _relocate(self, frozen: list[torch.nn.Parameter], buffers: list[tuple[str, torch.Tensor]]) -> None:
        start = 0
        for parameter in [*self._trained, *frozen]:
            view = slice(start, start + parameter.numel())
            parameter.data = self.values[view].view(parameter.shape)
            parameter.grad = None
            start = view.stop
        for name, old in buffers:
            owner, _, leaf = name.rpartition(".")
            self.module.get_submodule(owner)._buffers[leaf] = self.values[start : start + old.numel()].view(old.shape)
            start += old.numel()

    def take_gradients(self) -> list[torch.Tensor]:
        """The trained parameters' gradients, flat and contiguous, in the table's order; the module has none afterwards.

        They are autograd's own tensors: a flat buffer would cost a pass to clear it, another to add to it, and its
        memory in every node. A parameter that the output did not depend on has zeros.
        """
        taken = [_flat_gradient(parameter) for parameter in self._trained]
        self.drop_gradients()
        return taken

    def drop_gradients(self) -> None:
        """Leave no gradient in the module: the next backward pass does not add to an old one."""
        for parameter in self._trained:
            parameter.grad = None

    @contextmanager
    def untrained_kept_on_error(self) -> Iterator[None]:
        """Put back what a forward pass moved (batch norm's running figures) if the body raises."""
        rest = self.values[self.trained :]
        before, counts = rest.clone(), [b.clone() for _, b in self._counters]
        try:
            yield
        except BaseException:
            rest.copy_(before)
            for (_, buffer), count in zip(self._counters, counts, strict=True):
                buffer.copy_(count)
            raise

    def count(self, batches: int) -> None:
        """Move the integer buffers, batch norm's counters, on by as many training batches."""
        for _, buffer in self._counters:
            buffer.add_(batches)

    def copy_out(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """All entries as one new flat float32 array, in the order of `table`."""
        return self.look().copy()

    def look(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The same without a copy: it changes with the module."""
        start = len(self.values)
        for _, buffer in self._counters:
            self._all[start : start + buffer.numel()].copy_(buffer.reshape(-1))
            start += buffer.numel()
        return self._all.numpy()

    def copy_in(self, flat: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
        """Set all entries from a flat array in the order of `table`."""
        source = torch.from_numpy(np.require(flat, requirements=["C", "W"]))
        self.values.copy_(source[: self.values.numel()])
        start = self.values.numel()
        for _, buffer in self._counters:
            buffer.copy_(source[start : start + buffer.numel()].view(buffer.shape))
            start += buffer.numel()


def _flat_gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        return torch.zeros(parameter.numel())
    return parameter.grad.to_dense().reshape(-1).contiguous()
