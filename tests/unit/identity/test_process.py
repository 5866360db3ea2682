import subprocess
import sys

import msgspec
import pytest
from identity.worlds import NOW

from fedagg_edge.identity import requests
from fedagg_edge.identity.process import answer


def run(data):
    command = [sys.executable, "-P", "-m", "fedagg_edge.identity.process"]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=120)


def test_one_request_one_answer(world):
    done = run(requests.encode(requests.Prepare(folder=str(world.device), time=NOW)))
    assert (done.returncode, done.stderr) == (0, b"")
    found = requests.decode_answer(done.stdout)
    assert isinstance(found, requests.Prepared)
    assert found.node == "dev.1"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"secret-words" * 9, b"\0" * (requests.LIMIT * 4),
        msgspec.msgpack.encode({"type": "Prepare", "folder": "secret-words", "time": "x"}),
    ],
    ids=["empty", "invalid", "text", "oversized", "mistyped"],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_not_repeated(data):
    done = run(data)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"not an identity request\n")


def test_what_goes_wrong_is_an_answer(world, tmp_path):
    found = answer(requests.Prepare(folder=str(tmp_path), time=NOW))
    assert isinstance(found, requests.Failed)
    assert not found.denied
    issuer = (world.edge / "issuer.pem").read_bytes()
    found = answer(requests.Install(folder=str(world.device), certificate=issuer))
    assert isinstance(found, requests.Failed)
    assert found.denied
