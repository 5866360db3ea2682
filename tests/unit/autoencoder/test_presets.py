"""The names, and what an unknown one is told."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from fedagg_edge.autoencoder.presets import PRESETS, preset_of
from fedagg_edge.config import AutoencoderConfig
from fedagg_edge.errors import ConfigError


def test_presets_are_found_by_name() -> None:
    assert [preset_of(name).name for name in PRESETS] == ["open", "default", "guarded"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"got 'opne'.*did you mean 'open'"):
        preset_of("opne")


def test_the_configuration_knows_the_same_names() -> None:
    literal, _ = get_args(get_type_hints(AutoencoderConfig)["preset"])
    assert set(get_args(literal)) == PRESETS.keys()
