"""Around a recording of a module, for both kinds of files: where its operators come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx import traceback as fx_traceback

__all__ = ["named_modules", "user_line"]


@contextmanager
def named_modules(module: nn.Module) -> Iterator[None]:
    """Note, while recording, which submodule an operator runs in."""
    contexts: list[Any] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any) -> None:
            contexts.append(fx_traceback.annotate({"module": name}))
            contexts[-1].__enter__()

        return hook

    def leave(_: nn.Module, __: Any, ___: Any) -> None:
        contexts.pop().__exit__(None, None, None)

    handles = []
    for name, part in module.named_modules():
        handles += [part.register_forward_pre_hook(enter(name)), part.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        while contexts:  # left over where the forward raised
            contexts.pop().__exit__(None, None, None)


def user_line(stack: str) -> str:
    """The innermost line of a stack that is not torch's own, as file:number."""
    own = str(Path(torch.__file__).parent)
    lines = [line.strip() for line in stack.splitlines() if line.strip().startswith('File "')]
    for line in [*(x for x in reversed(lines) if own not in x), *reversed(lines)]:
        _, file, rest = line.split('"', 2)
        return f"{Path(file).name}:{rest.split('line ', 1)[1].split(',', 1)[0]}"
    return ""
