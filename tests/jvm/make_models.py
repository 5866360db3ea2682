"""Writes fixtures/: an autoencoder's file and its codec by the real writers, and numbers, for the JVM's tests.

    python tests/jvm/make_models.py      # needs torch and a TFLite runtime

The weights are random. `cnn3.npz` has steps that torch took from the weights of cnn3.tflite, see `steps.py`.
`codec.bin` and `tables.bin` are what Python made of some samples with the autoencoders, little-endian:

- codec.bin: int32 N, S, D; low and step float32 [D]; labels int32 [N]; samples in model scale float32 [N, S]; latents
  float32 [N, D]; codes uint8 [N, D]; bridge samples float32 [N, S] (so far as in fleet.py); raw samples float32 [N, S];
- tables.bin: int32 N, D, B; latents float32 [N, D]; codes uint8 [N, B]; what these stand for, float32 [N, D].
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "autoencoder"))

from making import AUDIT, make_artefact, make_table_layout
from steps import write_steps

from fedagg_edge.autoencoder import artefact, networks
from fedagg_edge.autoencoder.layout import CodeLayout
from fedagg_edge.autoencoder.torch_bridge import TorchCodec
from fedagg_edge.bridge import open_bridge
from fedagg_edge.export.codec import export_codec
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.base import LearnerState
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.learners.zoo import build_model

FOLDER = Path(__file__).parent / "fixtures"
SHAPE, SAMPLES = (3, 8, 4), 70  # more than go through a codec at once


def codec() -> None:
    """An artefact of the first version, its codec, and numbers."""
    low_C, high_C = np.array([0, -0.3, 10.1], np.float32), np.array([255, 0.9, 1234.567], np.float32)
    found = make_artefact(SHAPE, low_C=low_C, high_C=high_C)
    artefact.save(found, FOLDER / "autoencoder.safetensors")
    export_codec(found, FOLDER / "codec.tflite")
    bridge, layout = open_bridge(found), found.layout
    assert isinstance(layout, CodeLayout)
    rng = np.random.default_rng(5)
    span_C = (high_C - low_C).reshape(-1, 1, 1)
    raw_N = (low_C.reshape(-1, 1, 1) + span_C * rng.uniform(-0.1, 1.1, (SAMPLES, *SHAPE))).astype(np.float32)
    x_N = bridge.scale(raw_N)
    code_ND = bridge.encode(x_N)
    parts = [*layout.per_value(), np.arange(SAMPLES, dtype="<i4") % 3, x_N, TorchCodec(found).encode(x_N), code_ND]
    _write("codec.bin", (SAMPLES, x_N[0].size, layout.values), [*parts, bridge.decode(code_ND), raw_N])


def tables() -> None:
    """An artefact of the second version: mixed bits, an audit."""
    layout = make_table_layout(networks.embedding_shape_of((1, 8, 8), 2))
    artefact.save(make_artefact(layout=layout, audit=AUDIT), FOLDER / "tables.safetensors")
    z_ND = np.random.default_rng(6).standard_normal((40, layout.values), np.float32)
    code_NB = layout.encode(z_ND)
    _write("tables.bin", (40, layout.values, layout.sample_bytes), [z_ND, code_NB, layout.decode(code_NB)])


def _write(name: str, sizes: tuple[int, int, int], parts: list[np.ndarray]) -> None:
    (FOLDER / name).write_bytes(struct.pack("<iii", *sizes) + b"".join(part.tobytes() for part in parts))


def cnn() -> None:
    """Steps of the training file that is there."""
    file = tflite_file.load(FOLDER / "cnn3.tflite")
    learner = TorchLearner(build_model("cnn3", file.sample_shape, file.classes), "sgd")
    learner.load_state(LearnerState(file.table, file.weights, {}, 0))
    write_steps(learner, file.sample_shape, file.classes, FOLDER / "cnn3.npz")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    cnn()
    codec()
    tables()
