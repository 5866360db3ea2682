"""Checkpoints: safetensors and a manifest, written beside, synced, renamed; the previous one is kept.

A checkpoint exists once its manifest does. The manifest holds the SHA-256 of the tensors and of itself, so a truncated
or bit-flipped file is refused, never half loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedagg_edge.errors import CheckpointError
from fedagg_edge.failpoints import reach
from fedagg_edge.files import write_atomic

__all__ = ["Checkpoint", "drop_after", "list_rounds", "load", "save"]

SCHEMA = 1
_KEEP = 2
_MANIFEST = re.compile(r"round-(\d{6,18})\.json")
_FILE = re.compile(r"round-(\d{6,18})\.(?:safetensors|json)(\.tmp)?")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `round` was finished: named arrays, and facts in `meta` that fit JSON."""

    round: int
    tensors: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then drop all but the last two. One of the same round must not be there: in between, its
    tensors would not be those of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"round-{checkpoint.round:06d}.safetensors"
    beside = path.with_name(path.name + ".tmp")
    save_file({k: np.ascontiguousarray(v) for k, v in checkpoint.tensors.items()}, beside)
    reach("checkpoint.save.after-tensors")
    with beside.open("rb+") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
        os.fsync(f.fileno())
    reach("checkpoint.save.after-sync")
    beside.replace(path)
    reach("checkpoint.save.after-rename")
    body = {"schema": SCHEMA, "round": checkpoint.round, "sha256": digest, "meta": dict(checkpoint.meta)}
    manifest = {**body, "manifest_sha256": _self_digest(body)}
    write_atomic(path.with_suffix(".json"), json.dumps(manifest, indent=1).encode())
    reach("checkpoint.save.after-manifest")
    for old in list_rounds(folder)[:-_KEEP]:
        _remove(folder, old)
    _sweep(folder)


def drop_after(folder: Path, number: int) -> None:
    """Remove the checkpoints after round `number`: whoever goes on from it leaves them behind."""
    for later in [r for r in list_rounds(folder) if r > number]:
        _remove(folder, later)


def _remove(folder: Path, number: int) -> None:
    # manifest first: a checkpoint without its manifest does not exist
    (folder / f"round-{number:06d}.json").unlink(missing_ok=True)
    reach("checkpoint.remove.after-manifest")
    (folder / f"round-{number:06d}.safetensors").unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what killed writers left of rounds that have no manifest: nobody writes those numbers again if the rounds
    have gone on meanwhile, and each is as large as the model."""
    kept = set(list_rounds(folder))
    for path in folder.iterdir():
        found = _FILE.fullmatch(path.name)
        if found and (found[2] or int(found[1]) not in kept):
            path.unlink(missing_ok=True)


def list_rounds(folder: Path) -> list[int]:
    """The rounds that have a checkpoint, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(m[1]) for p in folder.iterdir() if (m := _MANIFEST.fullmatch(p.name)))


def load(folder: Path, wanted: int | None = None) -> Checkpoint:
    """Read the last checkpoint, or that of round `wanted`.

    Raises CheckpointError if there is none or if it is damaged; the message then offers the one before it.
    """
    rounds = list_rounds(folder)
    if not rounds:
        raise CheckpointError(f"{folder}: no checkpoint here")
    number = rounds[-1] if wanted is None else wanted
    if number not in rounds:
        raise CheckpointError(f"{folder}: no checkpoint of round {number}; there are {', '.join(map(str, rounds))}")
    try:
        return _read(folder, number)
    except CheckpointError as e:
        whole = next((r for r in reversed(rounds) if r != number and _is_whole(folder, r)), None)
        offer = (
            "no other one is whole; start anew" if whole is None else f"round {whole} is whole: use --resume {whole}"
        )
        raise CheckpointError(f"{e}; {offer}") from None


def _read(folder: Path, number: int) -> Checkpoint:
    manifest = _read_manifest(folder / f"round-{number:06d}.json", number)
    path = folder / f"round-{number:06d}.safetensors"
    try:
        with path.open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read: {e.strerror or e}") from None
    if digest != manifest["sha256"]:
        raise CheckpointError(f"{path}: damaged: SHA-256 is {digest[:12]}, its manifest says {manifest['sha256'][:12]}")
    try:
        return Checkpoint(number, load_file(path), manifest["meta"])
    except SafetensorError as e:
        raise CheckpointError(f"{path}: not a safetensors file: {e}") from None


def _read_manifest(path: Path, number: int) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{path}: damaged: {e}") from None
    if not isinstance(manifest, dict) or not {"schema", "round", "sha256", "meta"} <= set(manifest):
        raise CheckpointError(f"{path}: damaged: not a checkpoint's manifest")
    if manifest["schema"] != SCHEMA:
        raise CheckpointError(f"{path}: has schema {manifest['schema']!r}, this version reads {SCHEMA}")
    claimed = manifest.pop("manifest_sha256", None)
    if claimed != _self_digest(manifest) or manifest["round"] != number:
        raise CheckpointError(f"{path}: damaged: its content does not match its own SHA-256")
    return manifest


def _is_whole(folder: Path, number: int) -> bool:
    try:
        _read(folder, number)
    except CheckpointError:
        return False
    return True


def _self_digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
