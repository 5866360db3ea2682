"""Lets the tests below import what they share with the fleet's; the folder that they kill in."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fleet"))


@pytest.fixture
def folder(tmp_path):
    """In memory where there is such a file system: a kill, other than a power cut, loses nothing that was written."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)
