"""What an autoencoder file says about itself: how good it is, how large, and what it was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedagg_edge.errors import ArtefactError

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one training run. PSNRs are in dB, in model scale, on open samples held out from training."""

    psnr_db: float  # through the code, as bridge samples are made
    psnr_unquantised_db: float  # the same without the code: what the bytes cost is the difference
    encoder_parameters: int
    decoder_parameters: int
    embedding_bytes: int
    trained_on: str
    samples: int  # open samples trained on
    held_out: int  # open samples the PSNR is of
    epochs: int
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Report:
        """Return the report that `as_json` wrote; raise ArtefactError for a missing or mistyped figure."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(Report):
            value = data.get(field.name)
            expected = {"float": (int, float), "int": (int,), "str": (str,)}[str(field.type)]
            if not isinstance(value, expected) or isinstance(value, bool):
                raise ArtefactError(f"report: got {value!r} for {field.name}, expected {field.type}")
            values[field.name] = value
        return Report(**values)
