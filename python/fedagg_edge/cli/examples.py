"""The experiments that come with fedagg-edge, by name: who installed it by pip has no checkout to look in."""

from __future__ import annotations

from pathlib import Path

import fedagg_edge
from fedagg_edge.errors import ConfigError, nearest

__all__ = ["find", "folder"]


def folder() -> Path:
    """Where they are: in the wheel beside the package's modules, in a checkout, which has them once, at its top."""
    package = Path(fedagg_edge.__file__).parent
    inside = package / "examples"
    return inside if inside.is_dir() else package.parents[1] / "examples"


def find(word: Path) -> Path:
    """The file that `word` is, or the example of that name. Raises ConfigError, naming all, if there is neither."""
    known = {path.stem: path for path in sorted(folder().glob("*.toml"))}
    if str(word) in known and not word.is_file():
        return known[str(word)]
    if word.exists():
        return word
    raise ConfigError(
        f"{word}: cannot read the configuration: No such file or directory; expected a path, or the name of an example"
        f"{nearest(word.stem, known)}: {', '.join(known)}"
    )
