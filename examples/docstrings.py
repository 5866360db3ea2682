"""Text for `text.toml`: docstrings of the standard library, to be told apart by what their module is for.

Read from this Python's own source files, so nothing is downloaded and another version of Python gives other texts. A
docstring becomes a vector of hashed word counts. The modules of `OPEN` are open data for the autoencoder and have no
topic. Whole top-level definitions are held out for the test set, so that a class is not on both sides.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.datasets import Dataset

TOPICS = {
    "network": "http urllib socket ssl ftplib smtplib imaplib poplib socketserver xmlrpc ipaddress",
    "files": "zipfile tarfile gzip bz2 lzma shutil pathlib tempfile glob fileinput posixpath filecmp os mailbox",
    "numbers": "statistics fractions _pydecimal random numbers datetime calendar colorsys wave heapq bisect",
    "concurrency": "asyncio threading multiprocessing concurrent queue subprocess selectors sched contextlib",
}
OPEN = (
    "tkinter logging optparse argparse html json csv turtle unittest typing configparser inspect email ctypes idlelib"
)
WORD = re.compile(r"[a-z]{2,}")


def load(features: int = 512, least_words: int = 8, most: int = 100, test_percent: int = 25) -> Dataset:
    """Return docstrings of `least_words` words or more as float32 (features,); `most` of a module with a topic."""
    library = Path(sysconfig.get_path("stdlib"))
    rows = []
    for topic, modules in [*enumerate(TOPICS.values()), (-1, OPEN)]:
        for module in modules.split():
            found = sorted(set(docstrings(library, module, least_words)), key=lambda s: zlib.crc32(repr(s).encode()))
            rows += [(topic, module, where, words) for where, words in (found if topic < 0 else found[:most])]
    topics_of: dict[tuple[str, ...], set[int]] = {}
    for topic, _, _, words in rows:
        topics_of.setdefault(words, set()).add(topic)
    # what stands under two topics belongs to none, and nothing is on two sides of the split
    rows = list({row[3]: row for row in rows if len(topics_of[row[3]]) == 1}.values())
    y = np.array([topic for topic, _, _, _ in rows], np.int64)
    count = np.stack([hashed(words, features) for _, _, _, words in rows])
    weight = np.log(1 + (y == -1).sum() / (1 + (count[y == -1] > 0).sum(axis=0)))  # rare words count more (idf)
    x = np.sqrt(count) * weight
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    group = np.array([module for _, module, _, _ in rows])
    held_out = np.array([zlib.crc32(where.encode()) % 100 < test_percent for _, _, where, _ in rows])
    train, test = (y >= 0) & ~held_out, (y >= 0) & held_out
    return Dataset(
        name="docstrings",
        classes=len(TOPICS),
        train_x=x[train],
        train_y=y[train],
        test_x=x[test],
        test_y=y[test],
        public_x=x[y == -1],
        group_N=group[train],
        class_names=tuple(TOPICS),
        input_low=(0.0,) * features,
        input_high=(1.0,) * features,
    )


def docstrings(library: Path, module: str, least_words: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(top-level definition, lower-case words) of each docstring in a module, nothing imported."""
    file = library / f"{module}.py"
    files = [file] if file.is_file() else sorted((library / module).rglob("*.py"))
    for path in files:
        if {"test", "tests", "idle_test"} & {*path.relative_to(library).parts}:
            continue
        tree = ast.parse(path.read_bytes())
        for top in [tree, *tree.body]:
            name = f"{path.relative_to(library)}:{getattr(top, 'name', '')}"
            for node in [tree] if top is tree else ast.walk(top):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    words = words_of(ast.get_docstring(node) or "")
                    if len(words) >= least_words:
                        yield name, words


def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words in order; examples at the prompt are no text."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith((">>>", "..."))]
    return tuple(WORD.findall("\n".join(lines).lower()))


def hashed(words: tuple[str, ...], features: int) -> NDArray[np.int64]:
    """Counts of the words by crc32 modulo `features`, int64 (features,)."""
    return np.bincount([zlib.crc32(word.encode()) % features for word in words], minlength=features)
