import pytest

from fedagg_edge.errors import Conflict, DataError, RemoteProtocolError, StorageError, StorageFull
from fedagg_edge.wire.http import Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Problem, decode, encode
from fedagg_edge.wire.problems import CODES, answer, of_response
from fedagg_edge.wire.refusal import Refusal


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteProtocolError("x"), "malformed"),
        (Conflict("x"), "conflict"),
        (DataError("x"), "unfit"),
        (StorageFull("x"), "disk_full"),
        *((Refusal(status, code, "x"), code) for code, status in CODES.items()),
    ],
)
def test_each_error_has_its_status_and_code(error, code):
    response = answer(error)
    assert response.status == CODES[code]
    assert decode(Problem, response.body, Limits()).code == code


def test_an_error_of_this_node_is_not_answered():
    with pytest.raises(StorageError, match="damaged"):
        answer(StorageError("damaged"))


def test_a_long_text_is_cut():
    assert len(decode(Problem, answer(DataError("x" * 5000)).body, Limits()).message) == 1024


def test_a_page_of_a_proxy_is_a_problem_too():
    problem = of_response(Response(502, b"<html>", 3.0), Limits())
    assert problem == Problem("http", "status 502 without a problem", 3.0)
    told = Problem("rate", "x", 1.0)
    assert of_response(Response(429, encode(told), 9.0), Limits()) == told
