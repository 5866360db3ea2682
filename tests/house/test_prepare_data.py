"""The data preparation tool, on packed files made here; with FEDAGG_DATA, on the real ones."""

import hashlib
import importlib.util
import lzma
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fedagg_edge.datasets import load_dataset

TOOL = Path(__file__).parents[2] / "tools" / "prepare_data.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_data", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pack(image: Any) -> np.ndarray:
    """The planes that prediction leaves of one image, pixel by pixel and case by case, as the format is described."""
    image = image.astype(int)
    planes = [image[..., 0] - image[..., 1], image[..., 1], image[..., 2] - image[..., 1]]
    rest = np.zeros((3, 32, 32), np.uint8)
    for plane, left_over in zip(planes, rest, strict=True):
        for i in range(32):
            for j in range(32):
                a = plane[i, j - 1] if j else 0
                b = plane[i - 1, j] if i else 0
                c = plane[i - 1, j - 1] if i and j else 0
                if not i or not j:
                    guess = a if j else b
                elif c >= max(a, b):
                    guess = min(a, b)
                elif c <= min(a, b):
                    guess = max(a, b)
                else:
                    guess = a + b - c
                left_over[i, j] = (plane[i, j] - guess) % 256
    return rest


def packed_fields(part: str, images: np.ndarray) -> dict[str, Any]:
    stream = lzma.compress(np.stack([pack(image) for image in images]).tobytes())
    return {f"{part}_x_xz": np.frombuffer(stream, np.uint8), f"{part}_x_n": np.int64(len(images))}


def test_cifar_is_unpacked_and_its_images_are_taken_out_of_the_public_data(tool: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8)[None, :, :, None].repeat(3, axis=3)
    train, test, public = noise[:2], smooth, np.concatenate([noise[1:], smooth])
    names = np.array(["a", "b"])
    labels = {"train_y": np.array([0, 1], np.uint8), "test_y": np.array([1], np.uint8), "label_names": names}
    np.savez(tmp_path / "cifar10.npz", **packed_fields("train", train), **packed_fields("test", test), **labels)
    np.savez(tmp_path / "cifar100_core.npz", **packed_fields("train", public))

    out = tmp_path / "new" / "cifar10.npz"
    assert tool.main(["cifar10", "--data", str(tmp_path), "--out", str(out)]) == 0
    d = load_dataset(str(out), test_x="test_x", test_y="test_y", public_x="public_x")
    assert d.public_x is not None
    np.testing.assert_array_equal(d.train_x, train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(d.test_x, test.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(d.public_x, noise[2:].transpose(0, 3, 1, 2))


def test_cifar100_with_coarse_labels_and_cifar10_as_public_data(tool: ModuleType, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    train, test, public = noise[:2], noise[2:3], noise[1:]
    labels = {
        f"{part}_{kind}": np.arange(n, dtype=np.uint8)
        for part, n in (("train", 2), ("test", 1))
        for kind in ("fine", "coarse")
    }
    names = {"fine_names": np.array(["a"]), "coarse_names": np.array(["b"])}
    np.savez(
        tmp_path / "cifar100_core.npz",
        **packed_fields("train", train),
        **packed_fields("test", test),
        **labels,
        **names,
    )
    np.savez(tmp_path / "cifar10.npz", **packed_fields("train", public))

    out = tmp_path / "cifar100.npz"
    assert tool.main(["cifar100", "--data", str(tmp_path), "--out", str(out)]) == 0
    d = load_dataset(str(out), y="train_coarse", test_x="test_x", test_y="test_coarse", public_x="public_x")
    assert d.public_x is not None
    np.testing.assert_array_equal(d.train_x, train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(d.train_y, [0, 1])
    np.testing.assert_array_equal(d.public_x, noise[3:].transpose(0, 3, 1, 2))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two recordings of 20 and 12 samples by subjects 3 and 5; the label changes in the middle of the first."""
    x = np.arange(32 * 6, dtype=np.float16).reshape(32, 6)
    np.savez(
        tmp_path / "sp_sw_har.npz",
        x=x,
        label=np.array([0] * 10 + [1] * 10 + [2] * 12, np.uint8),
        offset=np.array([0, 20, 32], np.int32),
        subject=np.array([3, 5], np.uint8),
        is_watch=np.array([True, False]),
        label_names=np.array(["a", "b", "c"]),
        channels=np.array(list("uvwxyz")),
    )
    return tmp_path


@pytest.mark.parametrize(
    ("sensor", "purity", "expected"),
    [
        ("both", 1.0, [(0, 0, 3), (12, 1, 3), (20, 2, 5), (24, 2, 5)]),
        ("both", 0.7, [(0, 0, 3), (4, 0, 3), (8, 1, 3), (12, 1, 3), (20, 2, 5), (24, 2, 5)]),
        ("phone", 1.0, [(20, 2, 5), (24, 2, 5)]),
        ("watch", 1.0, [(0, 0, 3), (12, 1, 3)]),
    ],
)
def test_windows_lie_inside_one_recording(
    tool: ModuleType, recordings: Path, sensor: str, purity: float, expected: list[tuple[int, int, int]]
) -> None:
    """`expected`: first sample, label and subject of every window."""
    arrays = tool.har(recordings, sensor, 8, purity)
    assert arrays["train_x"].shape[1:] == (8, 6)
    assert arrays["train_x"].dtype == np.float32
    first = arrays["train_x"][:, 0, 0] / 6
    assert list(zip(first, arrays["train_y"], arrays["group"], strict=True)) == expected


def test_a_tone_lies_in_its_band_and_in_the_middle_of_the_window(tool: ModuleType) -> None:
    """2,000 Hz for 0.1 s: 7 frames hold it, the loudest band is the one whose triangle is highest at 2,000 Hz."""
    tone = (8000 * np.sin(2 * np.pi * 2000 * np.arange(800) / tool.RATE)).astype(np.int16)
    window = tool.log_mel(tone, 24, 32)
    assert window.shape == (32, 24)
    assert window.dtype == np.float32
    assert (window.min(), window.max()) == (tool.FLOOR_DB, 0)
    heard = np.flatnonzero((window > tool.FLOOR_DB).any(axis=1))
    assert heard.tolist() == list(range(12, 19))
    assert {*window[heard].argmax(axis=1)} == {tool.mel_filters(24)[:, 64].argmax()}  # bin 64 of 256 is 2,000 Hz


def test_a_long_clip_keeps_its_middle(tool: ModuleType) -> None:
    clip = np.zeros(8000, np.int16)
    clip[3900:4100] = 10_000  # frames 37 to 40 of 79 touch it
    assert 14 <= tool.log_mel(clip, 8, 32).max(axis=1).argmax() <= 18


def test_speakers_and_takes_are_kept_apart(tool: ModuleType, tmp_path: Path) -> None:
    """Three speakers, two takes of two digits each: one is open data, the first take is test data."""
    clips = [(s, d, t) for s in range(3) for d in range(2) for t in range(2)]
    speaker, digit, take = (np.array(v, np.uint8) for v in zip(*clips, strict=True))
    audio = np.random.default_rng(0).integers(-9000, 9000, 12 * 900).astype(np.int16)
    names = np.array(["ann", "bob", "cyd"])
    offset = np.arange(13, dtype=np.int32) * 900
    np.savez(
        tmp_path / "fsdd.npz", audio=audio, offset=offset, y=digit, speaker=speaker, take=take, speaker_names=names
    )
    out = tmp_path / "speech.npz"
    arguments = ["--data", str(tmp_path), "--out", str(out), "--public", "bob", "--test-takes", "1", "--frames", "16"]
    assert tool.main(["fsdd", *arguments]) == 0
    keys = {"group": "group", "test_x": "test_x", "test_y": "test_y", "public_x": "public_x", "layout": "NLC"}
    d = load_dataset(str(out), **keys)
    assert d.group_N is not None
    assert d.public_x is not None
    assert d.group_N.tolist() == ["ann", "ann", "cyd", "cyd"]
    assert d.train_y.tolist() == d.test_y.tolist() == [0, 1, 0, 1]
    assert d.train_x.shape == d.test_x.shape == d.public_x.shape == (4, 24, 16)
    second = tool.log_mel(audio[900:1800], 24, 16)  # ann, digit 0, second take
    np.testing.assert_array_equal(d.train_x[0], second.T)
    with pytest.raises(SystemExit, match="expected one of ann, bob, cyd"):
        tool.main(["fsdd", *arguments[:5], "eve"])


def test_wrong_arguments_say_what_to_give(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FEDAGG_DATA", raising=False)
    for arguments, message in [
        (["har", "--out", "x.npz"], "set FEDAGG_DATA"),
        (["har", "--out", "x.npz", "--data", ".", "--length", "30"], "expected a positive multiple of 4"),
        (["fsdd", "--out", "x.npz", "--data", ".", "--frames", "30"], "expected a positive multiple of 4"),
        (["har", "--out", "x.npy", "--data", "."], "expected a name that ends in .npz"),
    ]:
        with pytest.raises(SystemExit):
            tool.main(arguments)
        assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif("FEDAGG_DATA" not in os.environ, reason="FEDAGG_DATA is not set")
def test_the_real_cifar10_is_bit_exact(tool: ModuleType) -> None:
    images = tool.read_images(Path(os.environ["FEDAGG_DATA"]) / "cifar10.npz", "test")
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert digest == "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"
