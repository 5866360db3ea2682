"""Training: it learns, a seed repeats, a byte costs next to nothing, and unusable input is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedagg_edge.autoencoder.artefact import Artefact, digest_of, dumps, loads
from fedagg_edge.autoencoder.presets import PRESETS
from fedagg_edge.autoencoder.quality import psnr
from fedagg_edge.autoencoder.train import Progress, train
from fedagg_edge.bridge import open_bridge
from fedagg_edge.errors import ConfigError, DataError


def waves(count: int, channels: int = 2, length: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    phase, pace = rng.uniform(0, 6, (2, count, channels, 1))
    return (3 + np.sin(phase + pace * np.arange(length) / 12)).astype(np.float32)


def blobs(count: int, channels: int = 1, size: int = 8) -> np.ndarray:
    rng = np.random.default_rng(1)
    cy, cx, width = rng.uniform(2, 6, (3, count, channels, 1, 1))
    y, x = np.mgrid[:size, :size]
    return np.rint(200 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width)).astype(np.uint8)


@pytest.fixture(scope="module")
def trained() -> Artefact:
    return train(blobs(120), epochs=100, batch_size=32, seed=2, trained_on="blobs")


def test_it_learns_and_says_so(trained: Artefact) -> None:
    report = trained.report
    assert report.psnr_db > 25
    assert abs(report.psnr_db - report.psnr_unquantised_db) < 0.3
    assert (report.samples, report.held_out, report.epochs, report.seed) == (108, 12, 100, 2)
    assert (report.trained_on, report.embedding_bytes) == ("blobs", 32)
    assert report.encoder_parameters + report.decoder_parameters == sum(t.size for t in trained.tensors.values())
    assert report.encoder_parameters == 520
    np.testing.assert_array_equal(trained.high_C, [255])


def test_the_code_uses_its_range(trained: Artefact) -> None:
    bridge = open_bridge(trained)
    code_NB = bridge.encode(bridge.scale(blobs(120))).reshape(120, 8, 4)
    used = code_NB.max((0, 2)).astype(int) - code_NB.min((0, 2))
    assert used.min() > 128  # every channel, over half of the byte
    assert (code_NB == 0).mean() < 0.01


def test_a_second_pass_changes_less_than_the_first(trained: Artefact) -> None:
    bridge = open_bridge(trained)
    x_N = bridge.scale(blobs(120))
    once_N = bridge.decode(bridge.encode(x_N))
    twice_N = bridge.decode(bridge.encode(once_N))
    assert psnr(once_N, twice_N) > psnr(x_N, once_N) + 3


def test_the_seed_decides_every_bit() -> None:
    def digest(seed: int) -> str:
        return digest_of(train(blobs(40), epochs=2, seed=seed))

    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = digest(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    assert digest(1) == first
    assert digest(2) != first


def test_sensor_windows_measure_their_range_and_report_progress() -> None:
    seen: list[Progress] = []
    artefact = train(waves(60), epochs=3, batch_size=20, progress=seen.append)
    assert artefact.embedding_shape == (2, 8)
    assert artefact.low_C.max() < 2.1
    assert artefact.high_C.min() > 3.9
    assert [(p.epoch, p.epochs) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1].mse < seen[0].mse


def test_a_given_range_and_a_large_set_are_taken() -> None:
    artefact = train(blobs(4700, 3), input_low=(0, 0, 0), input_high=(200, 255, 255), epochs=1, embedding_channels=1)
    np.testing.assert_array_equal(artefact.high_C, [200, 255, 255])
    assert artefact.report.held_out == 470


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_learns_keeps_its_bytes_and_survives_the_file(preset: str) -> None:
    x = blobs(120)
    artefact = loads(dumps(train(x, preset=preset, epochs=20, batch_size=32, seed=1)))
    bridge = open_bridge(artefact)
    code_NB = bridge.encode(bridge.scale(x))
    assert code_NB.shape[1] == bridge.embedding_bytes <= 32
    mean_N = np.broadcast_to(bridge.scale(x).mean(0), x.shape)
    assert psnr(bridge.scale(x), bridge.decode(code_NB)) > psnr(bridge.scale(x), mean_N) + 1
    assert artefact.report.embedding_bytes == bridge.embedding_bytes


def test_fewer_bits_are_worse_and_windows_have_presets_too() -> None:
    quality = {p: train(waves(200), preset=p, epochs=10, seed=1).report.psnr_db for p in PRESETS}
    assert quality["open"] > quality["default"] > quality["guarded"]


def test_a_preset_s_filter_learns() -> None:
    """Through the code the trained decoder beats the inverse transform, which it begins as."""
    first, last = (train(blobs(400), preset="guarded", epochs=n, seed=1).report.psnr_db for n in (1, 60))
    assert last > first + 0.5


def test_an_unknown_preset_and_too_long_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'guarded'"):
        train(blobs(20), preset="guarde")
    with pytest.raises(DataError, match="cut them smaller"):
        train(waves(20, length=512), preset="open")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (blobs(15), {}, "with N at least 16"),
        (np.zeros(20, np.uint8), {}, "expected"),
        (np.zeros((20, 1, 6, 8), np.uint8), {}, "divisible by 4"),
        (np.full((20, 1, 8, 8), np.nan, np.float32), {}, "NaN"),
        (blobs(20), {"epochs": 0}, "above 0"),
        (blobs(20), {"batch_size": 0}, "above 0"),
        (blobs(20), {"learning_rate": float("nan")}, "above 0"),
        (blobs(20), {"input_low": 0}, "both or neither"),
        (blobs(20), {"embedding_channels": 500}, "use fewer"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(x: np.ndarray, options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(x, **options)  # type: ignore[arg-type]


def test_divergence_is_named() -> None:
    with pytest.raises(DataError, match="training diverged in epoch"):
        train(blobs(64), epochs=30, batch_size=16, learning_rate=1e30)
