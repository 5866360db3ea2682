import pytest

from fedagg_edge.errors import Conflict, DataError, LearnerError, RemoteProtocolError, StorageFull
from fedagg_edge.wire.http import Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Problem, decode
from fedagg_edge.wire.problems import CODES, answer, of_response
from fedagg_edge.wire.refusal import Refusal


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refusal(403, "role", "no"), 403, "role"),
        (Conflict("other"), 409, "conflict"),
        (RemoteProtocolError("broken"), 400, "malformed"),
        (DataError("unfit"), 422, "unfit"),
        (StorageFull("full"), 503, "disk_full"),
    ],
)
def test_every_error_has_its_status_and_code(error, status, code):
    response = answer(error)
    problem = decode(Problem, response.body, Limits())
    assert (response.status, problem.code, problem.message) == (status, code, str(error))
    assert CODES[code] == status


def test_errors_of_this_node_are_not_told():
    with pytest.raises(LearnerError):
        answer(LearnerError("ours"))


def test_a_page_of_a_proxy_is_a_problem_too():
    problem = of_response(Response(502, b"<html>", 3.0), Limits())
    assert (problem.code, problem.retry_after) == ("http", 3.0)


def test_the_page_lists_every_code():
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [c for c in CODES if c not in ("behind",) and f"`{c}`" not in text] == []
