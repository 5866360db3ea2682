"""What an import loads, counted in a fresh interpreter: a board with 512 MB must not pay for what it does not use."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "aiohttp",
    "ai_edge_litert",
    "cryptography",
    "httptools",
    "matplotlib",
    "pandas",
    "rich",
    "scipy",
    "sklearn",
    "tensorflow",
    "tflite_runtime",
    "torch",
    "torchvision",
    "urllib3",
}
LIGHT = [
    "records",
    "config",
    "tree",
    "datasets",
    "partition",
    "plugins",
    "learners",
    "learners.base",
    "learners.tflite",
    "autoencoder.tflite_codec",
    "bridge",
    "distill",
    "node",
    "store",
    "ledger.ledger",
    "ledger.store",
    "checkpoint",
    "identity.tls",
    "identity.tokens",
    "identity.renewal",
    "identity.revocation",
    "identity.offload",
    "cli.main",
    "fleet.supervisor",
    "fleet.writer",
]
DEVICE = """
import fedagg_edge.cli.main, fedagg_edge.fleet.agent, fedagg_edge.fleet.memory, fedagg_edge.fleet.run
from fedagg_edge.learners import learner_factory
fedagg_edge.cli.main.make_parser("device")
learner_factory("tflite", ".")
"""
"""What `fedagg device` imports until it waits, connected, for its first samples."""
LATER = {
    "asyncio": "only a gateway has an event loop",
    "calendar": "the dates of a certificate need none",
    "difflib": "for an error's message",
    "email": "headers are read without it",
    "http": "fleet/https.py",
    "importlib.metadata": "fedagg doctor's",
    "multiprocessing": "nobody's",
    "numpy.fft": "nobody's",
    "numpy.ma": "nobody's",
    "numpy.random": "when something is drawn, by a round",
    "subprocess": "to enrol and to renew",
    "tempfile": "where a model is compiled",
    "urllib.request": "fleet/https.py",
    "zipfile": "when samples are read",
}
"""Of the standard library and NumPy, and why not. What else was looked at: docs/decisions/device-memory.md."""
PROGRAM = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_of(statement: str) -> set[str]:
    """The modules that are loaded after `statement` and not before."""
    program = PROGRAM.format(statement=statement)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def loaded_by(statement: str) -> set[str]:
    """Of those the top-level packages, beside the standard library."""
    return {name.partition(".")[0] for name in modules_of(statement)} - sys.stdlib_module_names


def test_the_package_itself_loads_nothing_else() -> None:
    assert loaded_by("import fedagg_edge") == {"fedagg_edge"}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import fedagg_edge.{module}") & HEAVY == set()


def test_the_uplink_loads_its_client_and_the_gateway_its_server_alone() -> None:
    assert loaded_by("import fedagg_edge.fleet.uplink") & HEAVY == set()
    assert loaded_by("import fedagg_edge.fleet.serve") & HEAVY == {"httptools"}


def test_a_device_that_waits_has_not_loaded_what_it_needs_later_or_never() -> None:
    loaded = modules_of(DEVICE)
    assert loaded & (LATER.keys() | HEAVY) == set()
    assert loaded >= {"fedagg_edge.fleet.node_loop", "fedagg_edge.learners.tflite", "sqlite3", "ssl"}  # it was started
    assert modules_of(DEVICE + "import numpy.random, subprocess") & LATER.keys() >= {"numpy.random", "subprocess"}


def test_the_count_can_fail() -> None:
    assert loaded_by("import fedagg_edge.learners.zoo") >= {"fedagg_edge", "torch", "numpy"}
