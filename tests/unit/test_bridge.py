"""The bridge: scale, encode, decode, and what each refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from autoencoder.making import make_artefact
from hypothesis import given, settings
from hypothesis import strategies as st

from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.bridge import Bridge, open_bridge
from fedagg_edge.errors import ArtefactError, DataError

BRIDGES = {shape: open_bridge(make_artefact(shape, 3)) for shape in [(1, 8, 8), (3, 8, 12), (2, 16)]}
shapes = st.sampled_from(sorted(BRIDGES))
bridge_8x8 = BRIDGES[1, 8, 8]


def test_it_says_what_it_is() -> None:
    artefact = make_artefact()
    bridge = open_bridge(artefact)
    assert bridge.digest == artefacts.digest_of(artefact)
    assert bridge.sample_shape == (1, 8, 8)
    assert bridge.embedding_bytes == 8


def test_a_file_opens_to_the_same_bridge_and_may_be_pinned(tmp_path: Path) -> None:
    artefact = make_artefact()
    digest = artefacts.save(artefact, tmp_path / "ae")
    x_N = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    bridge = open_bridge(tmp_path / "ae", digest)
    assert bridge.digest == digest
    np.testing.assert_array_equal(bridge.encode(x_N), open_bridge(artefact, digest).encode(x_N))
    for source in (artefact, tmp_path / "ae"):
        with pytest.raises(ArtefactError, match="expected 0000"):
            open_bridge(source, "0" * 64)


def test_raw_samples_reach_the_model_scale_exactly() -> None:
    raw = np.arange(17, dtype=np.uint8).repeat(64).reshape(17, 1, 8, 8)
    x_N = bridge_8x8.scale(raw)
    assert x_N.dtype == np.float32
    np.testing.assert_array_equal(x_N[:, 0, 0, 0], np.arange(17, dtype=np.float32) / 16)


@settings(max_examples=60)
@given(shapes, st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_any_bytes_decode_to_finite_samples_in_model_scale(shape: tuple[int, ...], count: int, seed: int) -> None:
    bridge = BRIDGES[shape]
    code_NB = np.random.default_rng(seed).integers(0, 256, (count, bridge.embedding_bytes)).astype(np.uint8)
    y_N = bridge.decode(code_NB)
    assert y_N.shape == (count, *shape)
    assert y_N.dtype == np.float32
    assert np.isfinite(y_N).all()
    assert count == 0 or (y_N.min() >= 0 and y_N.max() <= 1)


@settings(max_examples=30)
@given(shapes, st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_codes_do_not_depend_on_the_batch(shape: tuple[int, ...], count: int, seed: int) -> None:
    bridge, rng = BRIDGES[shape], np.random.default_rng(seed)
    x_N = rng.random((count, *shape), np.float32)
    code_NB, order_N = bridge.encode(x_N), rng.permutation(count)
    assert code_NB.shape == (count, bridge.embedding_bytes)
    assert code_NB.dtype == np.uint8
    np.testing.assert_array_equal(bridge.encode(x_N[order_N]), code_NB[order_N])
    np.testing.assert_array_equal(bridge.encode(x_N[:1]), code_NB[:1])


def test_a_view_that_is_not_contiguous_encodes_like_its_copy() -> None:
    x_N = np.random.default_rng(0).random((10, 8, 8, 1), np.float32).transpose(0, 3, 2, 1)[::2]
    np.testing.assert_array_equal(bridge_8x8.encode(x_N), bridge_8x8.encode(np.ascontiguousarray(x_N)))
    code_NB = bridge_8x8.encode(x_N)
    np.testing.assert_array_equal(bridge_8x8.decode(code_NB[::-1]), bridge_8x8.decode(code_NB[::-1].copy()))


@pytest.mark.parametrize(
    ("x_N", "message"),
    [
        (np.zeros((2, 1, 8, 8)), "got float64"),
        (np.zeros((2, 8, 8), np.float32), r"expected float32 \(N, 1, 8, 8\)"),
        (np.full((1, 1, 8, 8), 1.01, np.float32), "expected model scale"),
        (np.full((1, 1, 8, 8), -0.01, np.float32), "expected model scale"),
        (np.full((1, 1, 8, 8), np.nan, np.float32), "expected model scale"),
    ],
)
def test_encode_takes_only_model_scale(x_N: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        bridge_8x8.encode(x_N)


@pytest.mark.parametrize(
    "code_NB",
    [
        np.zeros((2, 11), np.uint8),
        np.zeros((2, 13), np.uint8),
        np.zeros((2, 12), np.int8),
        np.zeros(12, np.uint8),
        np.zeros((2, 3, 4), np.uint8),
    ],
)
def test_decode_takes_only_codes_of_its_length(code_NB: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected uint8 \(N, 12\) codes of autoencoder"):
        bridge_8x8.decode(code_NB)


def test_scale_refuses_what_is_not_finite() -> None:
    with pytest.raises(DataError, match="row 1 holds NaN"):
        bridge_8x8.scale(np.stack([np.zeros((1, 8, 8)), np.full((1, 8, 8), np.nan)]))


def test_an_artefact_that_does_not_fit_its_network_is_refused_at_first_use() -> None:
    tensors = {name: value for name, value in make_artefact().tensors.items() if name != "decoder.head.bias"}
    bridge = open_bridge(make_artefact(tensors=tensors))
    with pytest.raises(ArtefactError, match=r"decoder\.head\.bias"):
        bridge.decode(np.zeros((1, 8), np.uint8))


def test_what_a_bridge_computes_it_computes_again_after_a_save(tmp_path: Path) -> None:
    bridge: Bridge = open_bridge(make_artefact((2, 16), 3))
    artefacts.save(make_artefact((2, 16), 3), tmp_path / "ae")
    code_NB = np.random.default_rng(0).integers(0, 256, (9, bridge.embedding_bytes)).astype(np.uint8)
    np.testing.assert_array_equal(open_bridge(tmp_path / "ae").decode(code_NB), bridge.decode(code_NB))


def test_opening_and_scaling_need_no_torch(tmp_path: Path) -> None:
    artefacts.save(make_artefact(), tmp_path / "ae")
    code = (
        "import sys, numpy; from fedagg_edge.bridge import open_bridge;"
        "open_bridge(sys.argv[1]).scale(numpy.zeros((1, 1, 8, 8))); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "ae")], check=True)
