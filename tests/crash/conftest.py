"""Lets the tests below import what they share with the fleet's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fleet"))
