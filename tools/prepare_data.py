"""Turn the packed data files in the folder FEDAGG_DATA into the plain .npz files that `examples/` take by path.

    FEDAGG_DATA=<folder> python tools/prepare_data.py cifar10 --out cifar10.npz --public cifar100
    FEDAGG_DATA=<folder> python tools/prepare_data.py cifar100 --out cifar100.npz --public cifar10
    FEDAGG_DATA=<folder> python tools/prepare_data.py har --out har.npz --sensor watch
    FEDAGG_DATA=<folder> python tools/prepare_data.py fsdd --out fsdd.npz

Packed images are lossless: the xz stream holds, per image, three 32x32 planes (red, green, blue) of what was left of
every pixel after its prediction from its left, upper and upper-left neighbours; green is predicted as it is, red and
blue as their difference from green. NumPy and the standard library only; nothing is unpickled.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32
CHUNK = 5000  # images decoded at once: bounds memory, and keeps the planes in cache


def median_prediction(left: Any, above: Any, corner: Any) -> Any:
    """The median of left, above and left + above - corner (the predictor of JPEG-LS, ITU-T T.87, A.3)."""
    low, high = np.minimum(left, above), np.maximum(left, above)
    return np.clip(left + above - corner, low, high)


def undo_prediction(rest_HWN: NDArray[np.int16], base_HWN: NDArray[np.int16] | int) -> NDArray[np.int16]:
    """Pixels of one colour plane from what prediction left; `base` is the green plane that they were coded against."""
    height, width, count = rest_HWN.shape
    base_HWN = np.broadcast_to(np.asarray(base_HWN, np.int16), rest_HWN.shape)
    # a border of zeros above and to the left makes the first row and column no special case
    known = np.zeros((height + 1, width + 1, count), np.int16)
    for i in range(height):
        for j in range(width):
            guess = median_prediction(known[i + 1, j], known[i, j + 1], known[i, j])
            pixel = (rest_HWN[i, j] + guess + base_HWN[i, j]) & 255
            known[i + 1, j + 1] = pixel - base_HWN[i, j]
    return known[1:, 1:] + base_HWN


def decode_images(packed: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Images [count, 32, 32, 3] from a packed stream."""
    rest = np.frombuffer(lzma.decompress(packed.tobytes()), np.uint8).reshape(count, 3, SIDE, SIDE)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for start in range(0, count, CHUNK):
        red, green, blue = np.ascontiguousarray(rest[start : start + CHUNK].transpose(1, 2, 3, 0)).astype(np.int16)
        green = undo_prediction(green, 0)
        planes = [undo_prediction(red, green), green, undo_prediction(blue, green)]
        images[start : start + CHUNK] = np.stack(planes).transpose(3, 1, 2, 0)
    return images


def read_images(file: Path, part: str) -> NDArray[np.uint8]:
    with np.load(file, allow_pickle=False) as archive:
        return decode_images(archive[f"{part}_x_xz"], int(archive[f"{part}_x_n"]))


def unseen(images: NDArray[np.uint8], *others: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images that are not in any of `others`: public data must hold nobody's private or test image."""
    seen = {hashlib.sha256(image.tobytes()).digest() for other in others for image in other}
    return images[[hashlib.sha256(image.tobytes()).digest() not in seen for image in images]]


def cifar10(folder: Path, public: str) -> dict[str, NDArray[Any]]:
    """CIFAR-10 in its official order, uint8 [N, 32, 32, 3]; as public data CIFAR-100's first 20,000 images, or none."""
    train_x, test_x = (read_images(folder / "cifar10.npz", part) for part in ("train", "test"))
    with np.load(folder / "cifar10.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in ("train_y", "test_y", "label_names")}
    arrays |= {"train_x": train_x, "test_x": test_x}
    if public == "cifar100":
        arrays["public_x"] = unseen(read_images(folder / "cifar100_core.npz", "train"), train_x, test_x)
    return arrays


def cifar100(folder: Path, public: str) -> dict[str, NDArray[Any]]:
    """CIFAR-100's first 20,000 training images and its test images, uint8 [N, 32, 32, 3], with 100 fine and 20 coarse
    labels; as public data CIFAR-10's training images, or none."""
    file = folder / "cifar100_core.npz"
    train_x, test_x = (read_images(file, part) for part in ("train", "test"))
    labels = ("train_fine", "train_coarse", "test_fine", "test_coarse", "fine_names", "coarse_names")
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in labels}
    arrays |= {"train_x": train_x, "test_x": test_x}
    if public == "cifar10":
        arrays["public_x"] = unseen(read_images(folder / "cifar10.npz", "train"), train_x, test_x)
    return arrays


def har(folder: Path, sensor: str, length: int, purity: float) -> dict[str, NDArray[Any]]:
    """Windows of the sp_sw_har recordings, float32 [N, length, 6], with label, subject and sensor.

    Each window overlaps the one before by half and lies inside one recording. It is kept if its most frequent label
    covers at least `purity` of it.
    """
    with np.load(folder / "sp_sw_har.npz", allow_pickle=False) as archive:
        packed = {name: archive[name] for name in archive.files}
    windows, labels, recordings = [], [], []
    for recording, (start, stop) in enumerate(zip(packed["offset"][:-1], packed["offset"][1:], strict=True)):
        if sensor != "both" and packed["is_watch"][recording] != (sensor == "watch"):
            continue
        for first in range(start, stop - length + 1, length // 2):
            times = np.bincount(packed["label"][first : first + length])
            if times.max() >= purity * length:
                windows.append(packed["x"][first : first + length].astype(np.float32))
                labels.append(times.argmax())
                recordings.append(recording)
    return {
        "train_x": np.stack(windows),
        "train_y": np.array(labels, np.int64),
        "group": packed["subject"][recordings].astype(np.int64),
        "is_watch": packed["is_watch"][recordings],
        "label_names": packed["label_names"],
        "channels": packed["channels"],
    }


RATE, FRAME, HOP, FFT = 8000, 200, 100, 256  # samples: windows of 25 ms every 12.5 ms
FLOOR_DB = -60.0  # below a clip's loudest band: quieter is background


def mel_filters(bands: int) -> NDArray[np.float64]:
    """Triangles [bands, FFT / 2 + 1], evenly spaced in mel = 2595 log10(1 + f / 700) from 60 Hz to half the rate."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([60.0, RATE / 2]) / 700)), bands + 2)
    edge = 700 * (10 ** (mel / 2595) - 1)
    bin_hz = np.arange(FFT // 2 + 1) * RATE / FFT
    left, middle, right = edge[:-2, None], edge[1:-1, None], edge[2:, None]
    return np.maximum(0, np.minimum((bin_hz - left) / (middle - left), (right - bin_hz) / (right - middle)))


def log_mel(audio: NDArray[np.int16], bands: int, frames: int) -> NDArray[np.float32]:
    """One clip as a window float32 [frames, bands]: dB below its loudest band, FLOOR_DB where it is quieter or over.

    A clip of more frames keeps its middle, a shorter one is put there.
    """
    padded = np.pad(audio.astype(np.float64), (0, max(0, FRAME - len(audio))))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.square(np.abs(np.fft.rfft(pieces, FFT))) @ mel_filters(bands).T
    db = 10 * np.log10(np.maximum(power, 1e-9))
    db = np.maximum(db - db.max(), FLOOR_DB)
    first = max(0, (len(db) - frames) // 2)
    db = db[first : first + frames]
    window = np.full((frames, bands), FLOOR_DB, np.float32)
    start = (frames - len(db)) // 2
    window[start : start + len(db)] = db
    return window


def fsdd(folder: Path, bands: int, frames: int, public: str, test_takes: int) -> dict[str, NDArray[Any]]:
    """Spoken digits as log-mel windows, float32 [N, frames, bands], with the speaker as group.

    The speaker `public` is open data and on no device; the first `test_takes` takes of every digit of the others are
    the test set, as is usual for this data set.
    """
    with np.load(folder / "fsdd.npz", allow_pickle=False) as archive:
        packed = {name: archive[name] for name in archive.files}
    speaker = packed["speaker_names"][packed["speaker"]]
    if public not in speaker:
        raise SystemExit(f"--public: got {public!r}, expected one of {', '.join(np.unique(speaker))}")
    clips = zip(packed["offset"][:-1], packed["offset"][1:], strict=True)
    x = np.stack([log_mel(packed["audio"][start:stop], bands, frames) for start, stop in clips])
    is_open, is_test = speaker == public, packed["take"] < test_takes
    train, test = ~is_open & ~is_test, ~is_open & is_test
    y = packed["y"].astype(np.int64)
    return {
        "train_x": x[train],
        "train_y": y[train],
        "group": speaker[train],
        "test_x": x[test],
        "test_y": y[test],
        "public_x": x[is_open],
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prepare data files for the examples.")
    sets = parser.add_subparsers(dest="set", required=True)
    images = sets.add_parser("cifar10", help="CIFAR-10, 60,000 images")
    images.add_argument("--public", choices=["none", "cifar100"], default="cifar100", help="open data to add")
    coarse = sets.add_parser("cifar100", help="CIFAR-100, 20,000 training and 10,000 test images")
    coarse.add_argument("--public", choices=["none", "cifar10"], default="cifar10", help="open data to add")
    windows = sets.add_parser("har", help="phone and watch recordings as windows of six channels")
    windows.add_argument("--sensor", choices=["both", "phone", "watch"], default="both")
    windows.add_argument(
        "--length", type=int, default=128, help="samples a window, divisible by 4 (about 100 a second)"
    )
    windows.add_argument("--purity", type=float, default=0.8, help="share of a window that its label must cover")
    speech = sets.add_parser("fsdd", help="spoken digits as log-mel windows")
    speech.add_argument("--bands", type=int, default=24, help="mel bands")
    speech.add_argument("--frames", type=int, default=64, help="frames of 12.5 ms a window, divisible by 4")
    speech.add_argument("--public", default="george", help="the speaker whose clips are open data")
    speech.add_argument("--test-takes", type=int, default=5, help="takes of each digit that are test data")
    for command in (images, coarse, windows, speech):
        command.add_argument("--data", type=Path, default=os.environ.get("FEDAGG_DATA"), help="default: $FEDAGG_DATA")
        command.add_argument("--out", type=Path, required=True, help="the .npz to write")
    options = parser.parse_args(argv)
    if options.data is None:
        parser.error("give --data, or set FEDAGG_DATA to the folder of the packed files")
    if options.set == "har" and (options.length < 4 or options.length % 4):
        parser.error(f"--length: got {options.length}, expected a positive multiple of 4, as the autoencoder needs")
    if options.set == "fsdd" and (options.frames < 4 or options.frames % 4):
        parser.error(f"--frames: got {options.frames}, expected a positive multiple of 4, as the autoencoder needs")
    if options.out.suffix != ".npz":
        parser.error(f"--out: got {options.out}, expected a name that ends in .npz")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file and say what is in it."""
    options = parse(argv)
    if options.set == "cifar10":
        arrays = cifar10(options.data, options.public)
    elif options.set == "cifar100":
        arrays = cifar100(options.data, options.public)
    elif options.set == "fsdd":
        arrays = fsdd(options.data, options.bands, options.frames, options.public, options.test_takes)
    else:
        arrays = har(options.data, options.sensor, options.length, options.purity)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.out, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle
    for name, array in arrays.items():
        print(f"{name:12} {array.dtype!s:8} {array.shape}")
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
