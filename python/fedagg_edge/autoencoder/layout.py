"""What the bytes of an embedding mean: the code layout that an autoencoder artefact carries.

One layout exists, `UINT8_AFFINE`: every embedding value is one byte, value ~ low + code * step with low and step per
embedding channel. The bytes of a sample are its embedding in C order (channel first), so a layout with other bits per
value changes `sample_bytes` and the packing, and nothing above the bridge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ArtefactError, nearest

__all__ = ["UINT8_AFFINE", "CodeLayout", "layout_from"]

UINT8_AFFINE = "uint8-affine-per-channel"
"""Name of the layout, as artefacts spell it."""


@dataclass(frozen=True, slots=True)
class CodeLayout:
    """How an embedding of `embedding_shape` (E, ...) becomes `sample_bytes` bytes.

    `low_E` and `step_E` float32, one per embedding channel: value ~ low + code * step, step above zero.
    Raises ArtefactError when the numbers cannot make a code.
    """

    name: str
    embedding_shape: tuple[int, ...]
    low_E: NDArray[np.float32]
    step_E: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.name != UINT8_AFFINE:
            raise ArtefactError(
                f"code layout: got {self.name!r}{nearest(self.name, [UINT8_AFFINE])}, "
                f"this version knows {UINT8_AFFINE!r}"
            )
        for key, value_E in (("low", self.low_E), ("step", self.step_E)):
            if value_E.dtype != np.float32 or value_E.shape != self.embedding_shape[:1]:
                raise ArtefactError(
                    f"code layout: got {value_E.dtype} {value_E.shape} {key}, "
                    f"expected float32 ({self.embedding_shape[0]},), one per embedding channel"
                )
            if not np.isfinite(value_E).all():
                raise ArtefactError(f"code layout: {key} holds a value that is not finite")
        if not (self.step_E > 0).all():
            raise ArtefactError("code layout: got a step of 0 or less, expected every step above 0")

    @property
    def values(self) -> int:
        """Numbers in one embedding."""
        return math.prod(self.embedding_shape)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's code."""
        return self.values

    def per_value(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (low_D, step_D) float32, D = `values`: the layout spread over a flattened embedding."""
        repeat = self.values // self.embedding_shape[0]
        return np.repeat(self.low_E, repeat), np.repeat(self.step_E, repeat)

    def as_json(self) -> dict[str, Any]:
        """Return the layout as JSON values; float32 survives the round trip exactly."""
        return {
            "name": self.name,
            "embedding_shape": list(self.embedding_shape),
            "low": [float(v) for v in self.low_E],
            "step": [float(v) for v in self.step_E],
            "sample_bytes": self.sample_bytes,
        }


def layout_from(data: Mapping[str, Any]) -> CodeLayout:
    """Return the layout that `as_json` wrote; raise ArtefactError if it is not one this version can read."""
    layout = CodeLayout(
        name=str(data["name"]),
        embedding_shape=tuple(int(v) for v in data["embedding_shape"]),
        low_E=np.asarray(data["low"], dtype=np.float32),
        step_E=np.asarray(data["step"], dtype=np.float32),
    )
    if int(data["sample_bytes"]) != layout.sample_bytes:
        raise ArtefactError(
            f"code layout: got {data['sample_bytes']} bytes a sample, embedding shape {layout.embedding_shape} "
            f"makes {layout.sample_bytes}"
        )
    return layout
