"""`fedagg autoencoder audit` and `show`: attack an artefact's embeddings, store and print what leaks.

torch is imported when the command runs, not when the command line is parsed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.autoencoder.artefact import Artefact, digest_of, load, save
from fedagg_edge.datasets import load_dataset
from fedagg_edge.errors import ConfigError, DataError
from fedagg_edge.npz import LAYOUTS, channel_first, read_npz

if TYPE_CHECKING:
    from fedagg_edge.autoencoder.attack import Recovered
    from fedagg_edge.autoencoder.report import Audit

__all__ = ["register", "run", "show"]

_HELD_OUT = 0.1  # of DATA, where no open data are given


def register(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-verbs `audit` and `show` of `autoencoder`."""
    verb = sub.add_parser(
        "audit",
        help="attack the embeddings, store what leaks in the file",
        description="Train a decoder of at least a million parameters on open data against the frozen encoder, and "
        "measure on DATA what it or the shipped decoder recovers. The figures are stored in the file, whose digest "
        "therefore changes: audit before a run pins it.",
    )
    verb.add_argument("artefact", metavar="ARTEFACT", type=Path, help="file of `fedagg autoencoder train`")
    verb.add_argument("data", metavar="DATA", help="samples to recover: digits, a .npz file, or module:function")
    verb.add_argument("--key", default="test_x", help="array of DATA in a .npz file (test_x)")
    verb.add_argument("--open-data", metavar="DATA", help="what the attacker trains on (nine tenths of DATA)")
    verb.add_argument("--open-key", default="train_x", help="array of the open data in a .npz file (train_x)")
    verb.add_argument("--layout", choices=LAYOUTS, default="auto", help="order of the axes in .npz files (auto)")
    verb.add_argument("--epochs", type=int, default=4, metavar="N", help="the attacker's passes (4)")
    verb.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="end its training earlier (no)")
    verb.add_argument("--seed", type=int, default=0, metavar="N")
    verb.add_argument("--out", type=Path, metavar="FILE", help="where the audited file goes (ARTEFACT)")
    verb.add_argument("--picture", type=Path, metavar="FILE", help="what was recovered (beside the file, .audit.png)")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    verb.add_argument("--quiet", action="store_true", help="print no progress")
    verb.set_defaults(run=run)
    shown = sub.add_parser("show", help="print what a file says about itself")
    shown.add_argument("artefact", metavar="ARTEFACT", type=Path)
    shown.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    shown.set_defaults(run=show)


def run(args: argparse.Namespace) -> int:
    """Run the parsed `audit`; return the exit status. Raises FedaggError for what the user can mend."""
    artefact = load(args.artefact)
    out = args.out or args.artefact
    picture = args.picture or out.with_name(out.name + ".audit.png")
    for flag, path in (("--out", out), ("--picture", picture)):
        if path.is_dir() or not path.parent.is_dir():
            raise ConfigError(f"{flag} {path}: expected a file in an existing folder; make {path.parent} first")
    (data, data_name), (open_x, open_name) = _samples(args)
    try:
        from fedagg_edge.autoencoder.attack import audit  # noqa: PLC0415  torch: only when something is attacked
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError("an audit needs torch; run: pip install 'fedagg-edge[torch]'") from error
    found, recovered = audit(
        artefact,
        data,
        open_x,
        epochs=args.epochs,
        seconds=args.seconds,
        seed=args.seed,
        data_name=data_name,
        open_name=open_name,
        progress=None if args.quiet or args.json else _print_progress,
    )
    audited = dataclasses.replace(artefact, audit=found)
    digest = save(audited, out)
    drawn = _draw(recovered, found, picture)
    if args.json:
        result = {"path": str(out), "digest": digest, "picture": str(picture) if drawn else None}
        sys.stdout.write(json.dumps(result | _leakage(found)) + "\n")
    else:
        lines = [*_audit_lines(found), f"wrote       {out}, digest {digest} (before: {digest_of(artefact)[:12]})"]
        lines.append(f"picture     {picture}" if drawn else "no picture: pip install 'fedagg-edge[sim]'")
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


def show(args: argparse.Namespace) -> int:
    """Run the parsed `show`; return the exit status. Raises ArtefactError for a file that is none."""
    artefact = load(args.artefact)
    if args.json:
        result: dict[str, Any] = {
            "digest": digest_of(artefact),
            "architecture": artefact.architecture,
            "sample_shape": artefact.sample_shape,
            "layout": artefact.layout.name,
            **artefact.report.as_json(),
            "audit": None if artefact.audit is None else _leakage(artefact.audit),
        }
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write("\n".join(_report_lines(artefact)) + "\n")
    return 0


def _samples(args: argparse.Namespace) -> tuple[tuple[NDArray[Any], str], tuple[NDArray[Any], str]]:
    """What is attacked and what the attacker trains on, each with a name; never the same rows."""
    if args.open_data is not None:
        data, name = _read(args.data, args.key, "test", args.layout)
        return (data, name), _read(args.open_data, args.open_key, "public", args.layout)
    data, name = _read(args.data, args.key, "test", args.layout)
    row_N = np.random.default_rng(args.seed).permutation(len(data))
    held_out = max(1, int(len(data) * _HELD_OUT))
    return (data[row_N[:held_out]], f"a tenth of {name}"), (data[row_N[held_out:]], f"nine tenths of {name}")


def _read(source: str, key: str, split: str, layout: str) -> tuple[NDArray[Any], str]:
    if source.endswith(".npz"):
        x_N = channel_first(read_npz(source, {"key": key})["key"], layout, f"{source}: {key}")
        return x_N, f"{key} of {Path(source).name}"
    dataset = load_dataset(source, base_dir=Path.cwd())
    x = dataset.test_x if split == "test" else dataset.public_x
    if x is None or len(x) == 0:
        raise DataError(f"{source}: has no {split} samples; name a data set that has some")
    return x, f"{split} split of {dataset.name}"


def _leakage(found: Audit) -> dict[str, Any]:
    return {"leakage_psnr_db": found.psnr_db, "leakage_ssim": found.ssim, **found.as_json()}


def _print_progress(done: float, error: float) -> None:
    sys.stderr.write(f"attacker {100 * done:3.0f}%  training error {error:.2e}\n")


def _audit_lines(found: Audit) -> list[str]:
    return [
        f"leakage     {found.psnr_db:.2f} dB, SSIM {found.ssim:.3f} on {found.samples} samples, {found.data}",
        f"decoder     {found.decoder_psnr_db:.2f} dB, SSIM {found.decoder_ssim:.3f}: the shipped one",
        f"attacker    {found.attacker_psnr_db:.2f} dB, SSIM {found.attacker_ssim:.3f}: "
        f"{found.attacker_parameters} parameters, {found.attacker_epochs:g} epochs of {found.open_samples} samples, "
        f"{found.open_data}, seed {found.seed}",
    ]


def _report_lines(artefact: Artefact) -> list[str]:
    report = artefact.report
    lines = [
        f"autoencoder {artefact.architecture}, {artefact.layout.name}, digest {digest_of(artefact)}",
        f"PSNR        {report.psnr_db:.2f} dB on {report.held_out} held-out samples",
        f"embedding   {artefact.embedding_bytes} bytes of a sample {artefact.sample_shape}",
        f"parameters  {report.encoder_parameters} encoder, {report.decoder_parameters} decoder",
        f"trained on  {report.samples} samples, {report.trained_on}, {report.epochs} epochs, seed {report.seed}",
    ]
    if artefact.audit is None:
        return [*lines, "leakage     not measured; run `fedagg autoencoder audit`"]
    return lines + _audit_lines(artefact.audit)


def _draw(recovered: Recovered, found: Audit, path: Path) -> bool:
    """Draw rows of samples: as they were, by the shipped decoder, by the attacker; False without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # no pyplot: no global state, no display
    except ModuleNotFoundError:
        return False
    rows = (
        ("original", recovered.original_N),
        (f"decoder\n{found.decoder_psnr_db:.1f} dB", recovered.decoder_N),
        (f"attacker\n{found.attacker_psnr_db:.1f} dB", recovered.attacker_N),
    )
    columns = len(recovered.original_N)
    figure = Figure(figsize=(1.2 * columns + 1, 4), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_of, (title, sample_N) in zip(grid, rows, strict=True):
        for axes, sample in zip(axes_of, sample_N, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            if sample.ndim == 3:
                axes.imshow(sample.transpose(1, 2, 0).squeeze(), vmin=0, vmax=1, cmap="gray")
            else:
                axes.plot(sample.T, linewidth=0.7)
                axes.set_ylim(0, 1)
        axes_of[0].set_ylabel(title, fontsize=8)
    figure.savefig(path, dpi=110)
    return True
