"""`fedagg autoencoder train`: pre-train an autoencoder on open data and write its artefact.

torch is imported when the command runs, not when the command line is parsed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.autoencoder.artefact import Artefact, save
from fedagg_edge.autoencoder.presets import PRESETS
from fedagg_edge.cli import autoencoder_audit
from fedagg_edge.datasets import load_dataset
from fedagg_edge.errors import ConfigError, DataError
from fedagg_edge.npz import LAYOUTS, channel_first, read_npz

if TYPE_CHECKING:
    from fedagg_edge.autoencoder.train import Progress

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `autoencoder` with its sub-verbs to the command line."""
    verb = subparsers.add_parser("autoencoder", help="pre-train the autoencoder that makes bridge samples")
    sub = verb.add_subparsers(dest="autoencoder_verb", required=True, metavar="VERB")
    train = sub.add_parser(
        "train",
        help="train on open data and write one file",
        description="Train an autoencoder on open data (labels are not needed) and write it as one safetensors file. "
        "An embedding is decodable by whoever holds the file: it is no privacy mechanism.",
    )
    train.add_argument("data", metavar="DATA", help="digits, a path to a .npz file, or module:function")
    train.add_argument("--out", required=True, type=Path, metavar="FILE", help="artefact to write")
    train.add_argument(
        "--split", choices=("public", "train"), default="public", help="part of a named data set (public)"
    )
    train.add_argument("--key", default="train_x", help="array in a .npz file (train_x)")
    train.add_argument("--layout", choices=LAYOUTS, default="auto", help="order of the axes in a .npz file (auto)")
    train.add_argument(
        "--input-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="raw values of black and white, or of a sensor's ends",
    )
    train.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="accuracy against leakage: " + "; ".join(f"{p.name}: {p.summary}" for p in PRESETS.values()),
    )
    train.add_argument("--embedding-channels", type=int, metavar="N", help="bytes per embedding position (by shape)")
    train.add_argument("--epochs", type=int, metavar="N", help="passes over the data (about 2,500 steps)")
    train.add_argument("--seed", type=int, default=0, metavar="N")
    train.add_argument("--limit", type=int, metavar="N", help="use only N samples, drawn with the seed")
    train.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    train.add_argument("--quiet", action="store_true", help="print no progress")
    train.set_defaults(run=run)
    autoencoder_audit.register(sub)


def run(args: argparse.Namespace) -> int:
    """Run the parsed command; return the exit status. Raises FedaggError for what the user can mend."""
    _check_target(args.out)
    open_data = _limited(_open_data(args), args.limit, args.seed)
    try:
        from fedagg_edge.autoencoder.train import train  # noqa: PLC0415  torch: only when something is trained
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError("training an autoencoder needs torch; run: pip install 'fedagg-edge[torch]'") from error
    silent = args.quiet or args.json
    artefact = train(
        open_data.x_N,
        input_low=open_data.low,
        input_high=open_data.high,
        preset=args.preset,
        embedding_channels=args.embedding_channels,
        epochs=args.epochs,
        seed=args.seed,
        trained_on=open_data.name,
        progress=None if silent else _print_progress,
    )
    _print_result(artefact, save(artefact, args.out), args)
    return 0


@dataclass(frozen=True, slots=True)
class _OpenData:
    """Raw samples [N, C, ...], their range where it is known, and what to call them."""

    x_N: NDArray[Any]
    low: Sequence[float] | float | None
    high: Sequence[float] | float | None
    name: str


def _check_target(out: Path) -> None:
    """Fail before the training rather than after it."""
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out}: expected a file in an existing folder; make {out.parent} first")


def _open_data(args: argparse.Namespace) -> _OpenData:
    low, high = args.input_range or (None, None)
    if args.data.endswith(".npz"):
        x_N = channel_first(read_npz(args.data, {"key": args.key})["key"], args.layout, f"{args.data}: {args.key}")
        return _OpenData(x_N, low, high, f"{args.key} of {Path(args.data).name}")
    dataset = load_dataset(args.data, base_dir=Path.cwd())
    open_x = dataset.public_x if args.split == "public" else dataset.train_x
    if open_x is None or len(open_x) == 0:
        raise DataError(f"{args.data}: has no public samples; choose --split train, or a data set that has some")
    if args.input_range is None:
        low, high = dataset.input_low, dataset.input_high
    return _OpenData(open_x, low, high, f"{args.split} split of {dataset.name}")


def _limited(open_data: _OpenData, limit: int | None, seed: int) -> _OpenData:
    if limit is None or limit >= len(open_data.x_N):
        return open_data
    if limit < 1:
        raise ConfigError(f"--limit: got {limit}, expected 1 or more")
    rows = np.sort(np.random.default_rng(seed).permutation(len(open_data.x_N))[:limit])
    return replace(open_data, x_N=open_data.x_N[rows], name=f"{open_data.name}, {limit} samples")


def _print_progress(progress: Progress) -> None:
    """Say how far the training is, about twenty times."""
    every = max(1, progress.epochs // 20)
    if progress.epoch % every == 0 or progress.epoch == progress.epochs:
        sys.stderr.write(f"epoch {progress.epoch}/{progress.epochs}  training error {progress.mse:.2e}\n")


def _print_result(artefact: Artefact, digest: str, args: argparse.Namespace) -> None:
    report = artefact.report
    if args.json:
        result = {
            "path": str(args.out),
            "digest": digest,
            "sample_shape": artefact.sample_shape,
            "embedding_shape": artefact.embedding_shape,
            **asdict(report),
        }
        sys.stdout.write(json.dumps(result) + "\n")
        return
    lines = (
        f"wrote       {args.out}",
        f"PSNR        {report.psnr_db:.2f} dB on {report.held_out} held-out samples "
        f"({report.psnr_unquantised_db:.2f} dB without the code)",
        f"embedding   {report.embedding_bytes} bytes, {artefact.embedding_shape} of a sample {artefact.sample_shape}",
        f"parameters  {report.encoder_parameters} encoder, {report.decoder_parameters} decoder",
        f"digest      {digest}",
    )
    sys.stdout.write("\n".join(lines) + "\n")
