import ast
from http import HTTPStatus
from pathlib import Path

import pytest

import fedagg_edge
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
    text = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [c for c in CODES if f"`{c}`" not in text] == []


def answered():
    """{(code, status)} of the refusals in the source, as far as both are written there."""
    found = set()
    for path in Path(fedagg_edge.__file__).parent.rglob("*.py"):
        for call in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
            match call:
                case ast.Call(args=[ast.Constant(value=int(status)), ast.Constant(value=str(code)), *_]):
                    found.add((code, status))
                case ast.Call(
                    args=[ast.Attribute(value=ast.Name(id="HTTPStatus"), attr=name), ast.Constant(value=str(code)), *_]
                ):
                    found.add((code, HTTPStatus[name].value))
    return found


def test_every_code_that_is_answered_is_there_and_no_other():
    found = {(code, status) for code, status in answered() if 400 <= status < 600}
    assert found == set(CODES.items()) | {("too_large", 431)}
