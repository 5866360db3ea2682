"""Every test that takes `isa` runs once for each instruction set of this machine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fedagg_edge import kernels

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=kernels.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with kernels.force_isa(request.param):
        yield request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
