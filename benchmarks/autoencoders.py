"""The presets of the autoencoder on the frontier of accuracy against leakage.

    python benchmarks/autoencoders.py                          digits, which need no download
    python benchmarks/autoencoders.py --data cifar10.npz --open cifar100.npz --limit 10000 --epochs 4
    python benchmarks/autoencoders.py --quick --json           less of it; one list of rows, for machines

For each preset: what the audit's attacker recovers of the test samples, and the centralised ceiling: a small CNN that
trains with labels on the decoded training samples, tested on raw test samples, on decoded ones, and on the mean of both
predictions. `real` is the same CNN trained on the samples themselves. With --folder autoencoders are kept, audited, and
taken from there the next time.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.autoencoder.attack import audit
from fedagg_edge.autoencoder.presets import PRESETS
from fedagg_edge.autoencoder.train import train
from fedagg_edge.bridge import open_bridge
from fedagg_edge.datasets import load_dataset
from fedagg_edge.npz import channel_first, read_npz

PLAIN = "no preset"


@dataclass(frozen=True, slots=True)
class Data:
    """Raw samples and labels; `open_x` trains autoencoder and attacker."""

    name: str
    train_x: NDArray[Any]
    train_y: NDArray[Any]
    test_x: NDArray[Any]
    test_y: NDArray[Any]
    open_x: NDArray[Any]
    low: Any = None  # what black and white are, where the type does not say it
    high: Any = None


def read(args: argparse.Namespace) -> Data:
    """The digits, or the images of two .npz files."""
    if args.data is None:
        digits = load_dataset("digits")
        assert digits.public_x is not None  # the digits have a public split
        arrays = digits.train_x, digits.train_y, digits.test_x, digits.test_y, digits.public_x
        return Data("digits", *arrays, digits.input_low, digits.input_high)
    found = read_npz(args.data, {k: k for k in ("train_x", "train_y", "test_x", "test_y")})
    images = {k: channel_first(found[k], "auto", f"{args.data}: {k}") for k in ("train_x", "test_x")}
    open_x = channel_first(read_npz(args.open, {"x": "train_x"})["x"], "auto", f"{args.open}: train_x")
    row_N = np.random.default_rng(0).permutation(len(images["train_x"]))[: args.limit]
    labels = found["train_y"][row_N].astype(np.int64), found["test_y"].astype(np.int64)
    return Data(Path(args.data).stem, images["train_x"][row_N], labels[0], images["test_x"], labels[1], open_x)


def obtained(preset: str, data: Data, args: argparse.Namespace, folder: Path) -> artefacts.Artefact:
    """The audited autoencoder of a preset, from the folder or trained into it."""
    path = folder / f"{preset.replace(' ', '-')}.safetensors"
    if path.exists():
        found = artefacts.load(path)
        if found.audit is not None:
            return found
    else:
        found = train(
            data.open_x,
            input_low=data.low,
            input_high=data.high,
            preset=None if preset == PLAIN else preset,
            epochs=args.autoencoder_epochs,
            trained_on=f"open data of {data.name}",
        )
    figures, _ = audit(found, data.test_x, data.open_x, epochs=args.attacker_epochs, data_name=data.name)
    found = dataclasses.replace(found, audit=figures)
    artefacts.save(found, path)
    return found


def small_cnn(channels: int, classes: int) -> nn.Module:
    """Four convolutions, 0.24 million parameters."""

    def stage(before: int, after: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    body = stage(channels, 32, 1) + stage(32, 64, 2) + stage(64, 128, 2) + stage(128, 128, 1)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def fitted(x_N: NDArray[np.float32], y_N: NDArray[np.int64], epochs: int, seed: int = 0) -> nn.Module:
    """The CNN after SGD with momentum and a falling rate; half of the samples mirrored where they are in colour."""
    torch.manual_seed(seed)
    net = small_cnn(x_N.shape[1], int(y_N.max()) + 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    batch = min(64, len(x_N))
    steps = epochs * (len(x_N) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, (k + 1) / 50) * (1 - k / (steps + 1)))
    for _ in range(epochs):
        for row_B in torch.randperm(len(x_N))[: len(x_N) // batch * batch].split(batch):
            x_B = torch.from_numpy(x_N[row_B.numpy()])
            if x_N.shape[1] == 3 and torch.rand(()) < 0.5:
                x_B = x_B.flip(3)
            loss = nn.functional.cross_entropy(net(2 * x_B - 1), torch.from_numpy(y_N[row_B.numpy()]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def probabilities(net: nn.Module, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax outputs [N, classes]."""
    with torch.inference_mode():
        return np.concatenate([net(2 * torch.from_numpy(p) - 1).softmax(1).numpy() for p in np.array_split(x_N, 40)])


def views(net: nn.Module, raw_N: NDArray[np.float32], bridge_N: NDArray[np.float32], y_N: Any) -> dict[str, float]:
    """Accuracy on raw samples, on bridge samples and by the mean of both predictions."""
    raw, through = probabilities(net, raw_N), probabilities(net, bridge_N)
    found = {"raw": raw, "bridge": through, "averaged": raw + through}
    return {view: float((p.argmax(1) == y_N).mean()) for view, p in found.items()}


def figures(data: Data, args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """{preset or "real": {figure: value}}, said line by line as they come."""
    out: dict[str, dict[str, float]] = {}
    for preset in (*PRESETS, PLAIN):
        found = obtained(preset, data, args, folder)
        bridge = open_bridge(found)
        raw_N = bridge.scale(data.test_x)
        through_N = bridge.decode(bridge.encode(raw_N))
        if not out:
            real = probabilities(fitted(bridge.scale(data.train_x), data.train_y, args.epochs), raw_N)
            out["real"] = {"raw": float((real.argmax(1) == data.test_y).mean())}
            print("real", out["real"], file=sys.stderr, flush=True)
        net = fitted(bridge.decode(bridge.encode(bridge.scale(data.train_x))), data.train_y, args.epochs)
        assert found.audit is not None
        out[preset] = {
            "bytes": found.embedding_bytes,
            "decoder dB": found.audit.decoder_psnr_db,
            "decoder SSIM": found.audit.decoder_ssim,
            "attacker dB": found.audit.attacker_psnr_db,
            "attacker SSIM": found.audit.attacker_ssim,
            **views(net, raw_N, through_N, data.test_y),
        }
        print(preset, out[preset], file=sys.stderr, flush=True)
    return out


UNITS = {"bytes": "B", "decoder dB": "dB", "attacker dB": "dB", "decoder SSIM": "1", "attacker SSIM": "1"}
LIMITS = {"default": 22.1, "guarded": 18.0}
"""dB that an attacker may get of 32x32 colour: `default` what the authors' code gives, `guarded` the project's goal."""


def rows(name: str, found: dict[str, dict[str, float]], colour: bool) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    out: list[dict[str, object]] = []
    for preset, values in found.items():
        for figure, value in values.items():
            limit = LIMITS.get(preset) if colour and figure == "attacker dB" else None
            out.append(
                {
                    "figure": f"{name}: {preset}, {figure}",
                    "value": value,
                    "unit": UNITS.get(figure, "share"),
                    "goal": None if limit is None else f"<= {limit}",
                    "holds": None if limit is None else value <= limit,
                    **about,
                }
            )
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=".npz with train_x, train_y, test_x, test_y (the digits)")
    parser.add_argument("--open", help=".npz with train_x, needed with --data")
    parser.add_argument("--limit", type=int, help="labelled training samples to use (all)")
    parser.add_argument("--epochs", type=int, default=20, help="of the classifier (20)")
    parser.add_argument("--autoencoder-epochs", type=int, help="(as `fedagg autoencoder train`)")
    parser.add_argument("--attacker-epochs", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where audited autoencoders are kept")
    parser.add_argument("--quick", action="store_true", help="few epochs: a look, no measurement")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if (args.data is None) != (args.open is None):
        parser.error("--data and --open go together")
    if args.quick:
        args.epochs, args.autoencoder_epochs, args.attacker_epochs = 2, 40 if args.data is None else 1, 1
    torch.set_num_threads(1)
    data = read(args)
    with tempfile.TemporaryDirectory() as scratch:
        found = figures(data, args, args.folder or Path(scratch))
    if args.json:
        print(json.dumps(rows(data.name, found, data.train_x.shape[1:] == (3, 32, 32)), indent=1))
    else:
        names = list(found[PLAIN])
        print("| |", " | ".join(names), "|\n|", "---|" * (len(names) + 1), sep="")
        for preset, values in found.items():
            print(f"| {preset} |", " | ".join(f"{values[n]:.3f}" if n in values else "" for n in names), "|")


if __name__ == "__main__":
    main()
