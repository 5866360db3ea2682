import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from autoencoder.making import make_artefact
from compiled import small_file

from fedagg_edge.autoencoder.artefact import save
from fedagg_edge.autoencoder.tflite_codec import TfliteCodec
from fedagg_edge.bridge import open_bridge
from fedagg_edge.errors import ArtefactError
from fedagg_edge.export.codec import compile_codec

SHAPE = (1, 8, 8)


def test_a_bridge_without_torch_makes_nearly_the_same_codes(tmp_path: Path) -> None:
    artefact = make_artefact(SHAPE)
    save(artefact, tmp_path / "a.safetensors")
    (tmp_path / "codec.tflite").write_bytes(compile_codec(artefact)[0])
    x_N = np.random.default_rng(1).random((9, *SHAPE), np.float32)
    np.save(tmp_path / "x.npy", x_N)
    program = f"""
import sys
import numpy as np
from fedagg_edge.bridge import open_bridge
bridge = open_bridge({str(tmp_path / "a.safetensors")!r}, codec={str(tmp_path / "codec.tflite")!r})
code_NB = bridge.encode(np.load({str(tmp_path / "x.npy")!r}))
np.savez({str(tmp_path / "out.npz")!r}, code=code_NB, x=bridge.decode(code_NB))
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, bridge = np.load(tmp_path / "out.npz"), open_bridge(artefact)
    assert np.abs(found["code"].astype(int) - bridge.encode(x_N)).max() <= 1  # on the edge between two bytes
    np.testing.assert_allclose(found["x"], bridge.decode(found["code"]), atol=1e-5, rtol=0)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    artefact = make_artefact(SHAPE)
    content = compile_codec(artefact)[0]
    with pytest.raises(ArtefactError, match="compile the codec of the pinned artefact"):
        TfliteCodec(make_artefact((3, 8, 8)), content)
    with pytest.raises(ArtefactError, match=r"damaged|truncated"):
        TfliteCodec(artefact, content[:-1] + b"x")
    with pytest.raises(ArtefactError, match=r"got 'fedagg-tflite' of schema 2, .* reads 'fedagg-tflite-codec'"):
        TfliteCodec(artefact, small_file())
    with pytest.raises(ArtefactError, match="cannot read the codec"):
        TfliteCodec(artefact, tmp_path / "no.tflite")
