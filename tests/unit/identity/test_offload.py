import asyncio
import sys

import pytest
from identity.worlds import NOW

from fedagg_edge.errors import IdentityBusy, IdentityError, PermissionDenied
from fedagg_edge.identity import offload, requests


def both(request, wanted, **words):
    """The answer, or the exception's type, of the two ways to ask."""
    found = []
    for ask in (offload.ask, lambda *a, **k: asyncio.run(offload.ask_async(*a, **k))):
        try:
            found.append(ask(request, wanted, **words))
        except Exception as error:
            found.append(type(error))
    return found


def test_an_answer(world):
    one, two = both(requests.Prepare(folder=str(world.device), time=NOW), requests.Prepared)
    assert (one.node, one.certificate) == (two.node, two.certificate) == ("dev.1", one.certificate)


def test_refusals_come_back_as_what_they_were(world, tmp_path):
    assert both(requests.Prepare(folder=str(tmp_path), time=NOW), requests.Prepared) == [IdentityError] * 2
    issuer = (world.edge / "issuer.pem").read_bytes()
    assert (
        both(requests.Install(folder=str(world.device), certificate=issuer), requests.Issued) == [PermissionDenied] * 2
    )


def test_the_wrong_kind_of_answer(world):
    with pytest.raises(IdentityError, match="expected Issued"):
        offload.ask(requests.Prepare(folder=str(world.device), time=NOW), requests.Issued)


@pytest.mark.parametrize(
    ("program", "raised"),
    [
        ("import time; time.sleep(600)", IdentityBusy),
        ("import os; os.kill(os.getpid(), 9)", IdentityBusy),  # as the kernel does when memory is short
        ("raise SystemExit(1)", IdentityError),
        ("print('x')", IdentityError),
        ("print('x' * 99999)", IdentityError),
    ],
)
def test_a_process_that_fails(monkeypatch, program, raised):
    monkeypatch.setattr(offload, "_COMMAND", (sys.executable, "-c", program))
    limit = 0.3 if "sleep" in program else 60.0
    assert both(requests.Prepare(folder="f", time=NOW), requests.Prepared, timeout=limit) == [raised] * 2
