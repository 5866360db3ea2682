"""What `pip install fedagg-edge[litert]` brings to a board, as pip resolves it now; downloads no package twice."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# all that a device has beside fedagg-edge itself; who adds a name here adds it to every board
ON_A_BOARD = {
    "ai-edge-litert",
    "backports-strenum",
    "flatbuffers",
    "ml-dtypes",
    "msgspec",
    "numpy",
    "protobuf",
    "safetensors",
    "tqdm",
    "typing-extensions",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.slow
def test_a_board_gets_these_distributions_and_no_torch() -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["litert"]]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {normal(item["metadata"]["name"]) for item in json.loads(done.stdout)["install"]}
    assert found <= ON_A_BOARD
    assert len(found) + 1 <= 14  # and fedagg-edge


def test_extras_that_cannot_live_together_say_so() -> None:
    extras = PROJECT["optional-dependencies"]
    assert any(r.replace(" ", "").endswith("<2") for r in extras["tflite"] if r.startswith("numpy"))
    assert not any("tflite-runtime" in r for name, wanted in extras.items() for r in wanted if name != "tflite")
    assert not any(r.startswith("torch") for name in ("litert", "tflite") for r in extras[name])
