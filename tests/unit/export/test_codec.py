from pathlib import Path

import numpy as np
import pytest
from autoencoder.making import make_artefact

from fedagg_edge.autoencoder.tflite_codec import TfliteCodec
from fedagg_edge.autoencoder.torch_bridge import TorchCodec
from fedagg_edge.autoencoder.train import train
from fedagg_edge.errors import ExportError
from fedagg_edge.export.codec import export_codec


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8), (6, 32), (30,)])
def test_embeddings_and_samples_are_torchs(shape: tuple[int, ...], tmp_path: Path) -> None:
    artefact = make_artefact(shape, embedding_channels=4)
    assert export_codec(artefact, tmp_path / "codec.tflite") < 1e-5
    ours, reference = TfliteCodec(artefact, tmp_path / "codec.tflite"), TorchCodec(artefact)
    x_N = np.random.default_rng(3).random((70, *shape), np.float32)
    z_ND = reference.encode(x_N)
    np.testing.assert_allclose(ours.encode(x_N), z_ND, atol=1e-5, rtol=0)
    np.testing.assert_allclose(ours.decode(z_ND), reference.decode(z_ND), atol=1e-5, rtol=0)


def test_the_networks_of_presets_are_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
    with pytest.raises(ExportError, match="without --preset"):
        export_codec(train(x, preset="open", epochs=1), tmp_path / "codec.tflite")
    assert not (tmp_path / "codec.tflite").exists()
