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
PROGRAM = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(statement: str) -> set[str]:
    """The top-level packages, beside the standard library, that are loaded after `statement` and not before."""
    program = PROGRAM.format(statement=statement)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)} - sys.stdlib_module_names


def test_the_package_itself_loads_nothing_else() -> None:
    assert loaded_by("import fedagg_edge") == {"fedagg_edge"}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import fedagg_edge.{module}") & HEAVY == set()


def test_the_uplink_loads_its_client_and_the_gateway_its_server_alone() -> None:
    assert loaded_by("import fedagg_edge.fleet.uplink") & HEAVY == set()
    assert loaded_by("import fedagg_edge.fleet.serve") & HEAVY == {"httptools"}


def test_the_count_can_fail() -> None:
    assert loaded_by("import fedagg_edge.learners.zoo") >= {"fedagg_edge", "torch", "numpy"}
