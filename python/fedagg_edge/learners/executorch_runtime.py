"""ExecuTorch's runtime, as far as training needs it: run a method of a program on tensors.

Only the compiled binding is imported: `executorch.runtime` would load the whole exporter, seconds and hundreds of
megabytes. The binding itself needs torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fedagg_edge.errors import LearnerError

__all__ = ["Program", "operators", "version"]

_BINDING = "executorch.extension.pybindings._C"


def _binding() -> Any:
    try:
        return importlib.import_module(_BINDING)
    except ImportError as error:
        raise LearnerError(
            f"the engine 'executorch' needs ExecuTorch, which cannot be imported here ({error}); run: "
            "pip install 'fedagg-edge[executorch]' (it needs numpy >= 2 and brings torch)"
        ) from error


def version() -> str:
    """The version that is installed; LearnerError if none is."""
    _binding()
    return importlib.metadata.version("executorch")


def operators() -> frozenset[str]:
    """Names of the operators that the runtime has, as ``aten::add.out``."""
    return frozenset(_binding()._get_operator_names())


class Program:
    """A loaded .pte. Give it only bytes whose checksum was right: the runtime dies of others.

    Raises LearnerError if ExecuTorch is not installed or refuses the program.
    """

    def __init__(self, content: bytes) -> None:
        binding = _binding()
        try:
            self._module = binding._load_for_executorch_from_buffer(content)
            self.methods = frozenset(self._module.method_names())
        except RuntimeError as error:
            raise LearnerError(f"ExecuTorch {version()} cannot load the program: {error}") from error

    def run(self, method: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of a method; their memory is the runtime's and good until the method's next run."""
        try:
            outputs: list[Tensor] = self._module.run_method(method, tuple(inputs), clone_outputs=False)
        except RuntimeError as error:
            raise LearnerError(f"ExecuTorch {version()} failed in {method!r}: {error}") from error
        return [out.to(torch.float32) if out.dtype == torch.float64 else out for out in outputs]
