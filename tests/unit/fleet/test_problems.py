from http import HTTPStatus

import msgspec

from fedagg_edge.fleet.problems import problem


def test_a_problem_is_three_values() -> None:
    found = problem(HTTPStatus.TOO_MANY_REQUESTS, "rate", "slower", 1.5)
    assert (found.status, found.retry_after) == (429, 1.5)
    assert msgspec.msgpack.decode(found.body) == ["rate", "slower", 1.5]
