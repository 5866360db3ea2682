"""Asking the short-lived process from a process that must stay small: synchronously, or from asyncio.

Raises PermissionDenied for what the other side may not do, IdentityError for what is wrong here and a process that
fails, CannotCertify for what another server may, IdentityBusy for one that is killed, as one that takes too long is.
"""

from __future__ import annotations

import sys
from typing import TypeVar

import msgspec

from fedagg_edge.errors import CannotCertify, IdentityBusy, IdentityError, PermissionDenied
from fedagg_edge.identity import requests

__all__ = ["ask", "ask_async"]

TIMEOUT = 30.0  # seconds for a server, which takes half a second and has others waiting
PATIENCE = 120.0  # for everybody else: a board that is busy or swaps needs tens of seconds to start the process
# -P: what lies in the working directory is not imported
_COMMAND = (sys.executable, "-P", "-m", "fedagg_edge.identity.process")

A = TypeVar("A", requests.Issued, requests.Prepared, requests.Signed, requests.Verified)


def ask(request: requests.Request, wanted: type[A], *, timeout: float = PATIENCE) -> A:
    """The answer to `request`, which must be of type `wanted`."""
    import subprocess  # noqa: PLC0415  with what it imports half a megabyte, for a renewal in days or weeks

    try:
        done = subprocess.run(
            _COMMAND, input=requests.encode(request), capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(timeout) from None
    return _read(done.returncode, done.stdout, wanted)


async def ask_async(request: requests.Request, wanted: type[A], *, timeout: float = TIMEOUT) -> A:
    """The same without blocking the event loop. Bound how many run at a time: each takes 53 MB for half a second."""
    import asyncio  # noqa: PLC0415  two megabytes that a device has no use for

    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*_COMMAND, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(timeout):
            out, _ = await process.communicate(requests.encode(request))
    except TimeoutError:
        raise _too_slow(timeout) from None
    finally:
        if process.returncode is None:  # too slow, or the caller was cancelled
            process.kill()
            await process.wait()
    return _read(process.returncode or 0, out, wanted)


def _too_slow(timeout: float) -> IdentityBusy:
    return IdentityBusy(f"identity process: no answer within {timeout:g} s; is this machine overloaded?")


def _read(code: int, out: bytes, wanted: type[A]) -> A:
    if code < 0:
        raise IdentityBusy(f"identity process: killed by signal {-code}; is this machine out of memory?")
    if code != 0:
        raise IdentityError(
            f"identity process: exit code {code}; is cryptography installed? run: pip install 'fedagg-edge[enroll]'"
        )
    try:
        answer = requests.decode_answer(out)
    except (msgspec.DecodeError, ValueError):
        raise IdentityError("identity process: gave no answer that can be read") from None
    if isinstance(answer, requests.Failed):
        if answer.elsewhere:
            raise CannotCertify(answer.message)
        raise PermissionDenied(answer.message) if answer.denied else IdentityError(answer.message)
    if not isinstance(answer, wanted):
        raise IdentityError(f"identity process: answered {type(answer).__name__}, expected {wanted.__name__}")
    return answer
