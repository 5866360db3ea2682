"""What an autoencoder file says about itself: how good it is, how large, what it was trained on, what it leaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedagg_edge.errors import ArtefactError

__all__ = ["Audit", "Report"]


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
        return Report(**_fields(Report, data, "report"))


@dataclass(frozen=True, slots=True)
class Audit:
    """What an attack on the embeddings recovered (`attack.audit`), in model scale, on samples it did not train on."""

    decoder_psnr_db: float  # by the file's own decoder
    decoder_ssim: float
    attacker_psnr_db: float  # by a larger decoder, trained on open data against the frozen encoder
    attacker_ssim: float
    attacker_parameters: int
    attacker_steps: int
    attacker_epochs: float
    open_data: str
    open_samples: int  # trained on
    data: str
    samples: int  # measured on
    seed: int

    @property
    def psnr_db(self) -> float:
        """The leakage: the better of the two decoders."""
        return max(self.decoder_psnr_db, self.attacker_psnr_db)

    @property
    def ssim(self) -> float:
        """The leakage as structural similarity: the better of the two decoders."""
        return max(self.decoder_ssim, self.attacker_ssim)

    def as_json(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Audit:
        """Return the audit that `as_json` wrote; raise ArtefactError for a missing or mistyped figure."""
        return Audit(**_fields(Audit, data, "audit"))


def _fields(kind: type[Any], data: Mapping[str, Any], what: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = data.get(field.name)
        expected = {"float": (int, float), "int": (int,), "str": (str,)}[str(field.type)]
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ArtefactError(f"{what}: got {value!r} for {field.name}, expected {field.type}")
        values[field.name] = value
    return values
