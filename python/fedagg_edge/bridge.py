"""The bridge: raw sample to model scale, model scale to embedding bytes, embedding bytes to bridge sample.

Both ends of a link decode the same bytes with the same artefact, so both train on the same bridge sample; `digest`
names the artefact. Raw private arrays go no further than `scale` and `encode`. No torch here: the backend is loaded on
first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.autoencoder.artefact import Artefact, digest_of, load
from fedagg_edge.autoencoder.scale import to_model_scale
from fedagg_edge.errors import ArtefactError, DataError

if TYPE_CHECKING:
    from fedagg_edge.autoencoder.tflite_codec import TfliteCodec
    from fedagg_edge.autoencoder.torch_bridge import TorchCodec

__all__ = ["Bridge", "open_bridge"]


class Bridge(Protocol):
    """What nodes use; samples and codes are rows, errors are DataError with got and expected."""

    @property
    def digest(self) -> str:
        """SHA-256 of the artefact that this bridge decodes with."""
        ...

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W), (C, L) or (F,)."""
        ...

    @property
    def embedding_bytes(self) -> int:
        """Bytes of one sample's code, B below."""
        ...

    def scale(self, raw_N: NDArray[Any]) -> NDArray[np.float32]:
        """Return raw samples [N, *sample_shape] in model scale: float32 in [0, 1]."""
        ...

    def encode(self, x_N: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the codes uint8 [N, B] of samples in model scale."""
        ...

    def decode(self, code_NB: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the bridge samples float32 [N, *sample_shape] in [0, 1]; any bytes decode to something."""
        ...


def open_bridge(
    artefact: Artefact | str | os.PathLike[str],
    expect_digest: str | None = None,
    *,
    codec: str | os.PathLike[str] | bytes | None = None,
) -> Bridge:
    """Return the bridge of an artefact or of the file that holds one.

    `codec`: a file that `fedagg export` made of the artefact (or its bytes); a TFLite runtime then takes torch's place.

    Cheap: torch is imported and the networks are made when something is first encoded or decoded, and ArtefactError is
    raised then if the tensors do not fit the architecture, or the codec is not the artefact's. Raises ArtefactError
    here if the file is not usable or not the one that `expect_digest` pins.
    """
    if not isinstance(artefact, Artefact):
        artefact = load(artefact, expect_digest)
    digest = digest_of(artefact)
    if expect_digest is not None and digest != expect_digest:
        raise ArtefactError(f"autoencoder: got digest {digest}, expected {expect_digest}; give the pinned artefact")
    return _ArtefactBridge(artefact, digest, codec)


class _ArtefactBridge:
    """Networks from the codec, bytes from the layout and the C++ core's kernels, checks here."""

    def __init__(self, artefact: Artefact, digest: str, codec: str | os.PathLike[str] | bytes | None) -> None:
        self._codec_file = codec
        self._artefact = artefact
        self._lazy_codec: TorchCodec | TfliteCodec | None = None
        self.digest = digest
        self.sample_shape = artefact.sample_shape
        self.embedding_bytes = artefact.embedding_bytes

    @property
    def _codec(self) -> TorchCodec | TfliteCodec:
        if self._lazy_codec is None and self._codec_file is not None:
            from fedagg_edge.autoencoder.tflite_codec import TfliteCodec  # noqa: PLC0415  a runtime, only when used

            self._lazy_codec = TfliteCodec(self._artefact, self._codec_file)
        if self._lazy_codec is None:
            from fedagg_edge.autoencoder.torch_bridge import TorchCodec  # noqa: PLC0415  torch, only when used

            self._lazy_codec = TorchCodec(self._artefact)
        return self._lazy_codec

    def scale(self, raw_N: NDArray[Any]) -> NDArray[np.float32]:
        return to_model_scale(raw_N, self._artefact.low_C, self._artefact.high_C, self.sample_shape)

    def encode(self, x_N: NDArray[np.float32]) -> NDArray[np.uint8]:
        x_N = np.asarray(x_N)
        if x_N.dtype != np.float32 or x_N.shape[1:] != self.sample_shape or x_N.ndim != len(self.sample_shape) + 1:
            raise DataError(
                f"encode: got {x_N.dtype} {x_N.shape}, expected float32 (N, {_listed(self.sample_shape)}); "
                "bring raw samples to model scale with scale()"
            )
        # written so that NaN fails too
        if x_N.size and not (x_N.min() >= 0.0 and x_N.max() <= 1.0):
            raise DataError(
                f"encode: got values from {x_N.min()} to {x_N.max()}, expected model scale, 0 to 1; "
                "bring raw samples to it with scale()"
            )
        return self._artefact.layout.encode(self._codec.encode(x_N))

    def decode(self, code_NB: NDArray[np.uint8]) -> NDArray[np.float32]:
        code_NB = np.asarray(code_NB)
        if code_NB.dtype != np.uint8 or code_NB.ndim != 2 or code_NB.shape[1] != self.embedding_bytes:
            raise DataError(
                f"decode: got {code_NB.dtype} {code_NB.shape}, expected uint8 (N, {self.embedding_bytes}) codes of "
                f"autoencoder {self.digest[:12]}"
            )
        return self._codec.decode(self._artefact.layout.decode(code_NB))


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
