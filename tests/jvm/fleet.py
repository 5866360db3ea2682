"""A real cloud, edge and Python device over TLS, with places for two phones that a JVM plays.

    python tests/jvm/fleet.py FOLDER [--rounds 3] [--sample]

Writes FOLDER/fleet.properties when the servers are up: where the edge is, and for each phone its token and a file of
what stands for its autoencoder's networks: private samples, their latents, their codes, and what the codes decode to
(NAME.bin, laid out in `_table`). The second phone reaches the edge through a proxy that breaks connections. With
--sample a third one takes part, the device of android_bridge/android/sample: its five files are in FOLDER/sample.
Ends when the cloud has made its rounds: exit status 0 if all phones took part in each of them, and none came late.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "fleet"))

from proxy import Proxy

from fedagg_edge.autoencoder import artefact
from fedagg_edge.autoencoder.layout import CodeLayout
from fedagg_edge.autoencoder.torch_bridge import TorchCodec
from fedagg_edge.bridge import open_bridge
from fedagg_edge.config import parse_config
from fedagg_edge.export.codec import export_codec
from fedagg_edge.export.tflite import export_tflite
from fedagg_edge.fleet import up
from fedagg_edge.fleet.plan import PlannedNode
from fedagg_edge.learners.zoo import build_model
from fedagg_edge.records import Tier
from fedagg_edge.simulation.progress import Silent

PHONES, CLASSES = 2, 10
PATIENCE = 480.0  # seconds for all of it: a JVM under emulation is slow
FAULTS = 5


def config(rounds: int, phones: int) -> dict[str, object]:
    device = {"model": "d", "count": phones + 1}
    return {
        "name": "phones",
        "rounds": rounds,
        "schedule": "snapshot",
        "data": {"source": "digits"},
        "partition": {"rule": "iid"},
        "autoencoder": {"epochs": 2},
        "models": {"d": {"builder": "mlp", "options": {"hidden": [8]}}, "e": {"builder": "mlp"}},
        "tree": {"model": "e", "children": [{"model": "e", "children": [device]}]},
        "training": {"device": {"learning_rate": 0.05}},
        "evaluation": {"references": False},
    }


def _table(fleet: up.Fleet, phone: PlannedNode) -> bytes:
    """int32 N, S, D; low and step float32 [D]; labels int32 [N]; samples float32 [N, S]; latents float32 [N, D];
    codes uint8 [N, D]; bridge samples float32 [N, S]. All little-endian."""
    found = artefact.load(fleet.folder / "autoencoder.safetensors")
    bridge, codec, layout = open_bridge(found), TorchCodec(found), found.layout
    assert isinstance(layout, CodeLayout)
    assert phone.private is not None
    # a phone need not have many samples, and an emulated one should not
    x_N, y_N = bridge.scale(phone.private[0][:120]), phone.private[1][:120]
    code_ND = bridge.encode(x_N)
    low_D, step_D = layout.per_value()
    count = len(y_N)
    parts = [low_D, step_D, y_N.astype("<i4"), x_N, codec.encode(x_N), code_ND, bridge.decode(code_ND)]
    head = struct.pack("<iii", count, x_N[0].size, layout.values)
    return head + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def _write_sample(fleet: up.Fleet, phone: PlannedNode, folder: Path) -> None:
    """The sample application's assets: a perceptron of its own, and raw samples."""
    folder.mkdir()
    found = artefact.load(fleet.folder / "autoencoder.safetensors")
    artefact.save(found, folder / "autoencoder.safetensors")
    export_codec(found, folder / "codec.tflite")
    torch.manual_seed(2)
    export_tflite(
        build_model("mlp", found.sample_shape, CLASSES), found.sample_shape, CLASSES, folder / "device.tflite"
    )
    assert phone.private is not None
    x_N, y_N = (part[:60] for part in phone.private)
    samples = np.ascontiguousarray(x_N, "<f4").tobytes() + y_N.astype("<i4").tobytes()
    (folder / "samples.bin").write_bytes(struct.pack("<i", len(y_N)) + samples)
    said = {
        "url": str(phone.table["parent"]["url"]),
        "token": (fleet.home(phone) / "token").read_text().strip(),
        "node": phone.place.id,
    }
    (folder / "device.properties").write_text("".join(f"{key}={value}\n" for key, value in said.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", action="store_true")
    args = parser.parse_args()
    count = PHONES + args.sample
    shutil.rmtree(args.folder, ignore_errors=True)
    fleet = up.lay_out(
        parse_config(config(args.rounds, count)),
        args.folder / "fleet",
        rounds={"target": args.rounds, "deadline": PATIENCE},
        progress=Silent(),
        knowledge="int8",
    )
    devices = [node for node in fleet.nodes if node.place.tier is Tier.DEVICE]
    phones, others = devices[:PHONES], [node for node in fleet.nodes if node not in devices[:count]]
    url = str(phones[0].table["parent"]["url"])
    proxy = Proxy(int(url.rpartition(":")[2]), seed=3, faults=FAULTS)
    autoencoder = artefact.digest_of(artefact.load(fleet.folder / "autoencoder.safetensors"))
    said = {"autoencoder": autoencoder, "classes": CLASSES, "rounds": args.rounds, "phones": PHONES}
    for i, phone in enumerate(phones):
        name = phone.place.id
        (args.folder / f"{name}.bin").write_bytes(_table(fleet, phone))
        said |= {
            f"phone.{i}.node": name,
            f"phone.{i}.url": url if i == 0 else f"https://127.0.0.1:{proxy.port}",
            f"phone.{i}.token": (fleet.home(phone) / "token").read_text(),
            f"phone.{i}.table": f"{name}.bin",
        }
    if args.sample:
        _write_sample(fleet, devices[PHONES], args.folder / "sample")
        said["sample"] = "sample"
    try:
        for node in others:
            fleet.start(node)
        text = "".join(f"{key}={value}\n" for key, value in said.items())
        (args.folder / "fleet.properties.new").write_text(text)
        (args.folder / "fleet.properties.new").rename(args.folder / "fleet.properties")
        rows = _watch(fleet)
    finally:
        fleet.stop()
        proxy.close()
    (edge,) = (node for node in fleet.nodes if node.place.tier is Tier.EDGE)
    rounds = up.read_metrics(fleet, edge)
    fine = [r["version"] for r in rounds] == list(range(args.rounds)) and not any(
        r["late"] or r["silent"] or r["refused"] for r in rounds
    )
    found = {"cloud": rows[-1]["accuracy"], "edge": rounds, "proxy": dict(proxy.happened), "fine": fine}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if fine else 1


def _watch(fleet: up.Fleet) -> list[dict[str, object]]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        rows = up.read_metrics(fleet, fleet.cloud)
        if rows and rows[-1]["finished"]:
            time.sleep(3.0)  # the devices hear of it
            return rows
        fleet.check()
        time.sleep(0.1)
    raise SystemExit(f"the rounds were not made in {PATIENCE:.0f} s; see {fleet.folder}")


if __name__ == "__main__":
    sys.exit(main())
