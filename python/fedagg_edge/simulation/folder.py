"""The folder of one run: configuration, autoencoder, metrics, checkpoints, pictures; all file names are here.

runs/<name>/config.json               what was run, complete
           /autoencoder.safetensors   the artefact that the run pins by digest
           /metrics.jsonl             one line per round
           /checkpoints/              see fedagg_edge.checkpoint
           /results.json, cloud.safetensors, curves.png, bridge.png
           /lock                      held by the process that runs it
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from fedagg_edge.config import SimulationConfig
from fedagg_edge.errors import CheckpointError, ConfigError
from fedagg_edge.files import write_atomic

__all__ = ["RunFolder"]

# keys that may change when a run goes on: they do not alter what was already computed
_FREE = frozenset({"rounds", "checkpoint_every", "workers", "decode_cache", "base_dir"})


class RunFolder:
    """Paths and files of a run under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.json"
        self.autoencoder = root / "autoencoder.safetensors"
        self.metrics = root / "metrics.jsonl"
        self.checkpoints = root / "checkpoints"
        self.results = root / "results.json"
        self.cloud = root / "cloud.safetensors"
        self.curves = root / "curves.png"
        self.bridge = root / "bridge.png"

    def start(self, config: SimulationConfig, *, overwrite: bool) -> None:
        """Begin a new run; raise ConfigError if one is here already and may not be replaced."""
        if self.config.exists():
            if not overwrite:
                raise ConfigError(
                    f"{self.root} holds a run already; go on with it (--resume), replace it (--overwrite), "
                    "or write elsewhere (--out FOLDER)"
                )
            self._clear()
        self.root.mkdir(parents=True, exist_ok=True)
        self._write(config)

    def resume(self, config: SimulationConfig) -> None:
        """Go on with the run here; raise ConfigError if its configuration was another one, naming the keys that differ.

        Keys that may change, such as `rounds`, are brought up to date in the folder.
        """
        self.expect_run()
        differing = self.differing(config)
        if differing:
            raise ConfigError(
                f"{self.root}: the run here was made with another {', '.join(differing)}; "
                "restore what was there, or write elsewhere (--out FOLDER)"
            )
        self._write(config)

    def expect_run(self) -> None:
        """Raise CheckpointError if there is no run here."""
        if not self.config.exists():
            raise CheckpointError(f"{self.root}: no run here to resume; start it without --resume")

    def differing(self, config: SimulationConfig) -> list[str]:
        """The keys in which the run here was configured otherwise, but for those that may change when it goes on.

        Raises CheckpointError if its configuration cannot be read.
        """
        try:
            then = msgspec.json.decode(self.config.read_bytes())
        except msgspec.DecodeError as e:
            raise CheckpointError(f"{self.config}: damaged: {e}") from None
        now = msgspec.json.decode(msgspec.json.encode(config))  # lists for tuples, as in the file
        then = _with_defaults(then)
        return sorted(k for k in {*then, *now} - _FREE if then.get(k) != now.get(k))

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of a run that is finished: it can be read, and no longer be gone on with."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def append_metrics(self, row: dict[str, Any]) -> int:
        """Add one line to the metrics; return the file's length after it."""
        with self.metrics.open("ab") as f:
            f.write(json.dumps(row).encode() + b"\n")
            f.flush()
            os.fsync(f.fileno())  # before the checkpoint that counts on this line
            return f.tell()

    def read_metrics(self, length: int) -> list[dict[str, Any]]:
        """Cut the metrics back to the `length` bytes that a checkpoint knows of, and return their rows."""
        if not length:
            self.metrics.unlink(missing_ok=True)
            return []
        if not self.metrics.exists() or self.metrics.stat().st_size < length:
            raise CheckpointError(f"{self.metrics}: shorter than the checkpoint says; start anew with --overwrite")
        with self.metrics.open("rb+") as f:
            f.truncate(length)
            lines = f.read().splitlines()
        try:
            return [json.loads(line) for line in lines]
        except ValueError as e:
            raise CheckpointError(f"{self.metrics}: damaged: {e}; start anew with --overwrite") from None

    def _write(self, config: SimulationConfig) -> None:
        write_atomic(self.config, msgspec.json.format(msgspec.json.encode(config), indent=1))

    def _clear(self) -> None:
        """Remove a run's own files and nothing else that may lie beside them."""
        # the configuration last: as long as it is there, this folder counts as a run
        self.drop_checkpoints()
        for path in (self.metrics, self.results, self.cloud, self.curves, self.bridge, self.autoencoder, self.config):
            path.unlink(missing_ok=True)


def _with_defaults(then: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with the defaults of keys that this version knows and the one that began it did not."""
    try:
        config = msgspec.convert(then, SimulationConfig)
    except msgspec.ValidationError:  # what it says can no longer be said: the comparison names the key
        return then
    return dict(msgspec.json.decode(msgspec.json.encode(config)))
