"""The attack: more bits leak more, a crippled decoder hides nothing, its figures repeat, bad input is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.autoencoder.attack import LEAST_PARAMETERS, Attacker, audit
from fedagg_edge.autoencoder.quality import psnr, ssim
from fedagg_edge.autoencoder.train import train
from fedagg_edge.bridge import open_bridge
from fedagg_edge.errors import DataError


def blobs(count: int, seed: int, size: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    cy, cx, width = rng.uniform(1, 7, (3, count, 1, 1, 1))
    y, x = np.mgrid[:size, :size]
    return np.rint(200 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width)).astype(np.uint8)


@pytest.fixture(scope="module")
def artefacts() -> dict[str, Artefact]:
    return {p: train(blobs(200, 0), preset=p, epochs=10, seed=0) for p in ("open", "guarded")}


def test_more_bits_leak_more(artefacts: dict[str, Artefact]) -> None:
    found = {p: audit(a, blobs(60, 1), blobs(300, 2), epochs=4)[0] for p, a in artefacts.items()}
    assert found["open"].psnr_db > found["guarded"].psnr_db + 2
    assert found["open"].ssim > found["guarded"].ssim


def test_a_crippled_decoder_hides_nothing(artefacts: dict[str, Artefact]) -> None:
    """The shipped decoder returns nonsense; whoever trains another one still gets the samples."""
    whole = artefacts["open"]
    tensors = {n: np.zeros_like(v) if n.startswith("decoder.") else v for n, v in whole.tensors.items()}
    crippled = dataclasses.replace(whole, tensors=tensors)
    found, _ = audit(crippled, blobs(60, 1), blobs(300, 2), epochs=4)
    reference, _ = audit(whole, blobs(60, 1), blobs(300, 2), epochs=4)
    assert found.decoder_psnr_db < reference.decoder_psnr_db - 5
    assert found.psnr_db == found.attacker_psnr_db > found.decoder_psnr_db + 5


def test_figures_repeat_and_say_what_was_done(artefacts: dict[str, Artefact]) -> None:
    told: list[float] = []
    data, open_x = blobs(30, 1), blobs(128, 2)
    first, recovered = audit(
        artefacts["guarded"], data, open_x, epochs=2, seed=3, data_name="private", progress=lambda d, _: told.append(d)
    )
    again, _ = audit(artefacts["guarded"], data, open_x, epochs=2, seed=3, data_name="private")
    other, _ = audit(artefacts["guarded"], data, open_x, epochs=2, seed=4, data_name="private")
    assert first == again != other
    assert (first.data, first.samples, first.open_samples, first.seed) == ("private", 30, 128, 3)
    assert (first.attacker_steps, first.attacker_epochs) == (4, 2)
    assert first.attacker_parameters >= LEAST_PARAMETERS
    assert told == sorted(told)
    assert recovered.original_N.shape == recovered.decoder_N.shape == recovered.attacker_N.shape == (8, 1, 8, 8)


def test_the_shipped_decoder_s_figures_are_the_bridge_s(artefacts: dict[str, Artefact]) -> None:
    bridge, data = open_bridge(artefacts["open"]), blobs(40, 1)
    found, _ = audit(artefacts["open"], data, blobs(64, 2), epochs=1)
    x_N = bridge.scale(data)
    back_N = bridge.decode(bridge.encode(x_N))
    assert found.decoder_psnr_db == pytest.approx(psnr(x_N, back_N), rel=1e-6)
    assert found.decoder_ssim == pytest.approx(ssim(x_N, back_N), rel=1e-6)


def test_a_limit_of_time_ends_the_training(artefacts: dict[str, Artefact]) -> None:
    found, _ = audit(artefacts["open"], blobs(20, 1), blobs(64, 2), epochs=10**6, seconds=0.5)
    assert 0 < found.attacker_steps < 10**6


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (6, 128)])
def test_an_attacker_has_at_least_a_million_parameters(shape: tuple[int, ...]) -> None:
    attacker = Attacker(32, shape)
    assert LEAST_PARAMETERS <= attacker.parameters_count < 2 * LEAST_PARAMETERS


def test_windows_and_the_plain_networks_are_attacked_too() -> None:
    x = np.random.default_rng(0).normal(size=(80, 2, 16)).cumsum(2).astype(np.float32)
    found, _ = audit(train(x, epochs=2), x[:10], x[10:], epochs=1)
    assert np.isfinite(found.psnr_db)


@pytest.mark.parametrize(
    ("rows", "open_rows", "options", "message"),
    [
        (5, 15, {}, "got 15 open samples and 5 to measure on, expected at least 16"),
        (0, 64, {}, "0 to measure on"),
        (5, 64, {"epochs": 0}, "epochs 0"),
        (5, 64, {"seconds": 0.0}, "seconds 0.0"),
    ],
)
def test_what_cannot_be_attacked_is_refused(
    artefacts: dict[str, Artefact], rows: int, open_rows: int, options: dict[str, float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        audit(artefacts["open"], blobs(rows, 1), blobs(open_rows, 2), **options)  # type: ignore[arg-type]


def test_samples_of_another_shape_are_refused(artefacts: dict[str, Artefact]) -> None:
    with pytest.raises(DataError, match="expected numbers of shape"):
        audit(artefacts["open"], blobs(20, 1, size=12), blobs(64, 2))
