"""`fedagg new NAME`: a small project of your own (model.py, data.py, experiment.toml) that runs as it is."""

from __future__ import annotations

import argparse
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from fedagg_edge.errors import ConfigError

__all__ = ["register", "run"]

_FILES = ("model.py", "data.py", "experiment.toml")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("new", help="write a small project of your own", description=__doc__)
    parser.add_argument("folder", metavar="NAME", type=Path, help="the folder to make; its last part names the run")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    folder: Path = args.folder
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise ConfigError(f"new: got the name {name!r}, expected 1 to 48 of a-z 0-9 . _ -, starting with a-z or 0-9")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"new: {folder} is there already and not empty; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for file in _FILES:
        text = files("fedagg_edge").joinpath("templates", f"{file}.tmpl").read_text("utf-8")
        (folder / file).write_text(_fill(text, name, file), "utf-8")
    print(  # noqa: T201
        f"{folder}/ holds {', '.join(_FILES)}\nrun it: cd {folder} && fedagg simulate experiment.toml\n"
        "as real processes on this machine, over TLS: fedagg fleet up experiment.toml"
    )
    return 0


def _fill(text: str, name: str, file: str) -> str:
    return text.format(name=name) if file.endswith(".toml") else text.replace("{name}", name)
