from fedagg_edge.wire.http import MEDIA_TYPE, Request, Response


def test_requests_and_responses_are_plain_data() -> None:
    assert Request("GET", "/v1/status") == Request("GET", "/v1/status", b"")
    assert Response(200) == Response(200, b"", None, MEDIA_TYPE)
