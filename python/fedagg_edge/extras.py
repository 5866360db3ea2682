"""Packages that only some nodes need: what each is for, the extra of fedagg-edge with it, what to say without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fedagg_edge.errors import ConfigError

__all__ = ["PACKAGES", "Package", "missing", "named"]


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution, the module that it is imported by, who needs it, the extra with it, what does without it."""

    distribution: str
    module: str
    use: str
    extra: str
    instead: str = ""

    @property
    def remedy(self) -> str:
        """What to run."""
        return f"pip install 'fedagg-edge[{self.extra}]'"


PACKAGES = (
    Package(
        "torch",
        "torch",
        "edges, the cloud and simulate",
        "torch",
        'a device can train without it: training.engine = "tflite" (docs/on-device.md)',
    ),
    Package("ai-edge-litert", "ai_edge_litert", "devices without torch", "litert"),
    Package("tflite-runtime", "tflite_runtime", "the same with numpy < 2", "tflite"),
    Package("executorch", "executorch", "devices on ExecuTorch", "executorch"),
    Package("flatbuffers", "flatbuffers", "fedagg export", "export"),
    Package("httptools", "httptools", "an edge's or the cloud's gateway", "edge"),
    Package("tomli-w", "tomli_w", "fedagg fleet up", "fleet"),
    Package("cryptography", "cryptography", "certificates of a fleet", "enroll"),
    Package("scikit-learn", "sklearn", "the digits data set", "sim"),
    Package("matplotlib", "matplotlib", "pictures of a run", "sim"),
    Package("rich", "rich", "progress bars", "sim"),
)


def missing(error: ImportError) -> ConfigError | None:
    """What to raise in place of `error`; None if the module is there, or of no package that an extra brings."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    top = (error.name or "").partition(".")[0]
    for package in PACKAGES:
        if package.module == top:
            instead = f"; {package.instead}" if package.instead else ""
            return ConfigError(f"{package.distribution} is not installed; run: {package.remedy}{instead}")
    return None


@contextmanager
def named() -> Iterator[None]:
    """Raise ConfigError, with the line that installs it, where a package of an extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        found = missing(error)
        if found is None:
            raise
        raise found from error
