"""The artefact that most tests below use."""

from __future__ import annotations

import pytest
from autoencoder.making import make_artefact

from fedagg_edge.autoencoder.artefact import Artefact


@pytest.fixture
def artefact() -> Artefact:
    return make_artefact()
