"""Named autoencoders on the frontier of accuracy against leakage. No torch: configurations name them.

All three are one separable transform with a post-filter in the decoder; what differs is where the bits of an embedding
go. The error of the coarse ones is their protection, so `fedagg autoencoder audit` says what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedagg_edge.errors import ConfigError, nearest

__all__ = ["PRESETS", "Preset", "preset_of"]


@dataclass(frozen=True, slots=True)
class Preset:
    """`bits`: of every coefficient that is sent, the strongest first until the bytes are full; 0: each gets as many as
    lower the squared error most, which also gives a strong attacker most."""

    name: str
    bits: int
    summary: str


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("open", 0, "no limit on leakage: bits go where they lower the error most"),
        Preset("default", 2, "two bits for each of many coefficients: by PSNR, no more leakage than the authors' code"),
        Preset("guarded", 1, "the signs of twice as many coefficients: shapes without their strength"),
    )
}


def preset_of(name: str) -> Preset:
    """Return the preset of that name; raise ConfigError for another name."""
    if name not in PRESETS:
        raise ConfigError(
            f"autoencoder preset: got {name!r}{nearest(name, list(PRESETS))}, expected {', '.join(PRESETS)}"
        )
    return PRESETS[name]
