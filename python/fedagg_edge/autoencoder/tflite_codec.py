"""Running an artefact's networks without torch: what `export.codec` compiled, by a TFLite runtime.

Beside `torch_bridge.TorchCodec`, with the same two methods. The file names the artefact that it was made of.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.autoencoder.artefact import Artefact, digest_of
from fedagg_edge.errors import ArtefactError
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.tflite_runtime import open_interpreter

__all__ = ["FORMAT", "TfliteCodec"]

FORMAT = "fedagg-tflite-codec"

_ROWS = 64  # most samples at once


class TfliteCodec:
    """Encoder and decoder of one artefact, on the CPU.

    `file`: the path of a file that `export.codec` wrote, or its bytes. Raises ArtefactError if it is damaged, foreign,
    or of another artefact, LearnerError if no runtime is usable.
    """

    def __init__(self, artefact: Artefact, file: str | os.PathLike[str] | bytes) -> None:
        content, source = (file, "codec") if isinstance(file, bytes) else (_read(file), str(file))
        about, _ = tflite_file.described(content, FORMAT, source=source)
        if about.get("autoencoder") != digest_of(artefact):
            raise ArtefactError(
                f"{source}: made of the autoencoder {str(about.get('autoencoder'))[:12]}, expected one of "
                f"{digest_of(artefact)[:12]}; compile the codec of the pinned artefact"
            )
        interpreter, self.runtime = open_interpreter(content)
        self._encode, self._decode = (interpreter.get_signature_runner(name) for name in ("encode", "decode"))
        self._sample_shape, self._size = artefact.sample_shape, math.prod(artefact.embedding_shape)

    def encode(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return embeddings float32 [N, D], flattened in C order, of samples [N, *sample_shape] in [0, 1]."""
        return _in_chunks(self._encode, x_N, (self._size,))

    def decode(self, z_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return samples float32 [N, *sample_shape] in [0, 1] of embeddings [N, D]."""
        return _in_chunks(self._decode, np.ascontiguousarray(z_ND, np.float32), self._sample_shape)


def _in_chunks(run: Any, rows_N: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    out_N = np.empty((len(rows_N), *shape), np.float32)
    for start in range(0, len(rows_N), _ROWS):
        part = rows_N[start : start + _ROWS]
        out_N[start : start + len(part)] = run(x=part)["y"]
    return out_N


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read the codec: {error.strerror}") from error
