"""`python -m fedagg_edge.identity.process`: one request on standard input, one answer on standard output, the end.

Exit code 0 with an answer, which may be a refusal; 2 if the request cannot be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from fedagg_edge.errors import CannotCertify, FedaggError, ProtocolError
from fedagg_edge.identity import requests

__all__ = ["answer", "main"]


def answer(request: requests.Request) -> requests.Answer:
    """Do what is asked; what goes wrong is an answer too."""
    try:
        return _done(request)
    except FedaggError as error:
        return requests.Failed(
            message=str(error),
            denied=isinstance(error, ProtocolError),
            elsewhere=isinstance(error, CannotCertify),
        )
    except OSError as error:
        return requests.Failed(message=f"{error.filename or 'i/o error'}: {error.strerror or 'failed'}", denied=False)


def _done(request: requests.Request) -> requests.Answer:
    from fedagg_edge.identity import enrolment, issue, signing  # noqa: PLC0415  a bad request costs no cryptography

    match request:
        case requests.Enrol():
            return issue.enrol(request)
        case requests.Renew():
            return issue.renew(request)
        case requests.Prepare():
            return enrolment.prepare(Path(request.folder), request.time)
        case requests.Install():
            return enrolment.install(Path(request.folder), request.certificate)
        case requests.Sign():
            return signing.sign(request)
        case requests.Check():
            return signing.check(request)


def main() -> int:
    """Read, do, write; return the exit code."""
    try:
        request = requests.decode_request(sys.stdin.buffer.read(requests.LIMIT + 1))
    except (msgspec.DecodeError, ValueError):  # not what it said: that may repeat a field
        sys.stderr.write("not an identity request\n")
        return 2
    sys.stdout.buffer.write(requests.encode(answer(request)))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
