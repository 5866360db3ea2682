import pytest

from fedagg_edge.wire.http import JSON_TYPE, MEDIA_TYPE, RAW_TYPE, Request, Response, strange


def test_requests_and_responses_are_plain_data() -> None:
    assert Request("GET", "/v1/status") == Request("GET", "/v1/status", b"")
    assert Response(200) == Response(200, b"", None, MEDIA_TYPE)


@pytest.mark.parametrize("media", ["", MEDIA_TYPE, RAW_TYPE, JSON_TYPE, "Application/JSON; charset=utf-8"])
def test_what_a_parent_may_answer(media):
    assert strange(200, media) is None


def test_what_somebody_in_between_answered_is_named_and_cannot_break_a_line():
    assert strange(302, "Text/HTML; charset=x").startswith("got status 302 with 'text/html', expected application/x-f")
    text = strange(200, "text/\nplain" + "x" * 500)
    assert "\n" not in text
    assert len(text) < 300
