"""Raw bytes in, raw bytes out: what a client may send, and what ends its connection."""

import asyncio
import socket

import pytest
from transport import Wire

from fedagg_edge.fleet import http1
from fedagg_edge.fleet.http1 import Answer, HttpConnection

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Ends:
    """A connection with a handler that answers with what it got, or when it is told to."""

    def __init__(self, *, keepalive=60.0, handler=None, **options):
        self.asked, self.wire = [], Wire()
        self.connection = HttpConnection(handler or self.echo, keepalive=keepalive, **options)
        self.connection.connection_made(self.wire)

    async def echo(self, request):
        self.asked.append((request.method, request.path))
        body = await request.read(5.0)
        return Answer(200, {"Content-Type": "text/plain"}, request.path.encode() + b":" + body)

    async def feed(self, *pieces):
        for piece in pieces:
            self.connection.data_received(piece)
            for _ in range(5):
                await asyncio.sleep(0)

    @property
    def statuses(self):
        return [int(sent.split(b" ", 2)[1]) for sent in self.wire.sent]


def run(scenario):
    """As a test: the scenario in an event loop."""

    def test(*args):
        asyncio.run(asyncio.wait_for(scenario(*args), 10))

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


@run
async def test_an_answer_is_one_write_and_the_connection_goes_on():
    ends = Ends()
    await ends.feed(HEAD % 3 + b"abc", GET)
    first, second = ends.wire.sent
    head, _, body = first.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"/v1/x:abc")
    names = {line.split(b":")[0] for line in head.split(b"\r\n")[1:]}
    assert names == {b"Content-Type", b"Content-Length", b"Date"}
    assert second.endswith(b"\r\n\r\n/:")
    assert ends.wire.ended is None


@run
async def test_requests_in_any_pieces_are_the_same():
    whole = HEAD % 5 + b"abcde" + GET + HEAD % 0
    for size in (1, 2, 7, 50):
        ends = Ends()
        await ends.feed(*(whole[at : at + size] for at in range(0, len(whole), size)))
        assert [sent.partition(b"\r\n\r\n")[2] for sent in ends.wire.sent] == [b"/v1/x:abcde", b"/:", b"/v1/x:"]


@run
async def test_one_after_another_and_no_more_is_read_meanwhile():
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return Answer(200, {}, request.path.encode())

    ends = Ends(handler=wait)
    await ends.feed(GET)
    assert ends.wire.reading  # it hears if the client goes
    await ends.feed(GET.replace(b"/ ", b"/2 ") + GET.replace(b"/ ", b"/3 "))
    assert (ends.wire.sent, ends.wire.reading, ends.connection.is_idle) == ([], False, False)
    release.set()
    await ends.feed(b"")
    await asyncio.sleep(0.01)
    assert [sent[-2:] for sent in ends.wire.sent] == [b"\n/", b"/2", b"/3"]
    assert ends.wire.reading
    assert ends.connection.is_idle


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (b"GET /" + b"a" * 1024 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 1024 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 33 + b"\r\n", 431),
    ],
)
def test_a_head_that_is_wrong_or_too_long_ends_the_connection(head, status):
    async def feed():
        ends = Ends()
        await ends.feed(head, GET)
        return ends

    ends = asyncio.run(feed())
    assert (ends.statuses, ends.wire.ended, ends.asked) == ([status], "closed", [])
    assert b"Connection: close\r\n" in ends.wire.sent[0]


@run
async def test_a_head_that_never_ends_is_bounded():
    for piece in (b"a" * 1000, b"a: b\r\n" * 100):
        ends = Ends()
        await ends.feed(b"GET / HTTP/1.1\r\nx: ", *[piece] * 60)
        assert (ends.statuses, ends.wire.ended) == ([431], "closed")


@run
async def test_a_trailer_that_never_ends_is_bounded():
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    ends = Ends(handler=_refuse)
    await ends.feed(chunked + b"4\r\nbody\r\n0\r\nx: ", *[b"a" * 1000] * 60)
    assert (ends.statuses, ends.wire.ended) == ([413], "aborted")
    ends = Ends(handler=_refuse)
    await ends.feed(chunked, *[b"2710\r\n" + b"a" * 10_000 + b"\r\n"] * 30, b"0\r\nx: y\r\n\r\n" + GET)
    assert (ends.statuses, ends.wire.ended) == ([413, 413], None)


@run
async def test_what_was_understood_is_answered_before_what_was_not():
    ends = Ends()
    await ends.feed(GET + b"garbage\r\n\r\n")
    await asyncio.sleep(0)
    assert (ends.statuses, ends.wire.ended, ends.asked) == ([200, 400], "closed", [("GET", "/")])


@run
async def test_a_body_behind_a_get_is_no_request():
    ends = Ends()
    await ends.feed(b"GET /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(GET) + GET)
    assert [sent.partition(b"\r\n\r\n")[2] for sent in ends.wire.sent] == [b"/a:" + GET]


@run
async def test_an_upgrade_or_a_tunnel_is_refused():
    for head in (
        b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ):
        ends = Ends()
        await ends.feed(head)
        await asyncio.sleep(0)
        assert ends.statuses[-1] == 400
        assert ends.wire.ended == "closed"


@run
async def test_old_or_closing_clients_get_one_answer():
    for head in (
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    ):
        ends = Ends()
        await ends.feed(head + GET if b"keep" in head else head)
        assert (ends.statuses, ends.wire.ended) == ([200], "closed")
        assert b"Connection: close\r\n" in ends.wire.sent[0]


@run
async def test_some_answers_have_no_body():
    async def nothing(request):
        return Answer(204 if request.path == "/204" else 200, {}, b"body")

    ends = Ends(handler=nothing)
    await ends.feed(GET.replace(b"/ ", b"/204 "), GET.replace(b"GET", b"HEAD"))
    assert b"Content-Length" not in ends.wire.sent[0]
    assert b"Content-Length: 4\r\n" in ends.wire.sent[1]
    assert all(sent.endswith(b"\r\n\r\n") for sent in ends.wire.sent)


@run
async def test_a_body_that_nobody_asked_for_is_not_kept():
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return Answer(413, {})

    ends = Ends(handler=wait)
    await ends.feed(HEAD % 1_000_000)
    for _ in range(4):
        assert ends.wire.reading
        await ends.feed(b"x" * 16_384)
    assert not ends.wire.reading
    release.set()
    await ends.feed(b"")
    assert (ends.statuses, ends.wire.reading, ends.wire.ended) == ([413], True, None)
    await ends.feed(*[b"x" * 100_000] * 9, b"x" * (100_000 - 4 * 16_384) + GET)  # read, not kept, and then it goes on
    assert ends.statuses == [413, 413]


@run
async def test_the_rest_of_an_unwanted_body_may_come_for_a_while():
    ends = Ends(handler=_refuse)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http1, "LINGER", 0.05)
        await ends.feed(HEAD % 100)
        assert (ends.statuses, ends.wire.ended) == ([413], None)
        await asyncio.sleep(0.1)
    assert ends.wire.ended == "closed"


async def _refuse(request):
    return Answer(413, {})


@run
async def test_a_client_that_waits_is_told_to_send_its_body():
    head = (HEAD % 3).replace(b"Host", b"Expect: 100-Continue\r\nHost")
    ends = Ends()
    await ends.feed(GET, head)
    assert ends.wire.sent[1:] == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    await ends.feed(b"abc", head + b"abc")  # who does not wait is told nothing
    assert ends.statuses == [200, 100, 200, 200]
    await ends.feed(head.replace(b"1.1", b"1.0"))
    assert ends.statuses == [200, 100, 200, 200]


@run
async def test_a_client_that_was_not_told_to_send_its_body_sends_no_other_request():
    """Whether what follows is the body or the next request, only the client knows."""
    ends = Ends(handler=_refuse)
    await ends.feed((HEAD % len(GET)).replace(b"Host", b"Expect: 100-continue\r\nHost"))
    assert b"Connection: close\r\n" in ends.wire.sent[0]
    await ends.feed(GET, GET)
    assert (ends.statuses, ends.wire.ended) == ([413], "closed")


@run
async def test_the_last_answer_waits_for_the_body_too():
    async def refuse(request):
        return Answer(503, {}, close=True)

    ends = Ends(handler=refuse)
    await ends.feed(HEAD % 3 + b"a")
    assert (ends.statuses, ends.wire.ended) == ([503], None)
    await ends.feed(b"bc" + GET)
    assert (ends.statuses, ends.wire.ended) == ([503], "closed")


@run
async def test_a_body_is_kept_once():
    asked = []

    async def read(request):
        asked.append(request)
        body = await request.read(5.0)
        assert request._parts == [body]
        return Answer(200, {}, body + await request.read(5.0))

    ends = Ends(handler=read)
    await ends.feed(HEAD % 4, b"ab", b"cd", GET)
    assert [sent.partition(b"\r\n\r\n")[2] for sent in ends.wire.sent] == [b"abcdabcd", b""]
    assert [request._parts for request in asked] == [[], []]


@run
async def test_a_body_in_time_or_not():
    async def read(request):
        try:
            return Answer(200, {}, await request.read(0.05))
        except TimeoutError:
            return Answer(408, {})

    ends = Ends(handler=read)
    await ends.feed(HEAD % 4 + b"ab", b"cd", HEAD % 4 + b"ab")
    await asyncio.sleep(0.1)
    assert ends.statuses == [200, 408]


@run
async def test_a_client_that_goes_ends_what_it_waits_for():
    gone = []

    async def wait(request):
        try:
            await asyncio.Event().wait()
        finally:
            gone.append(request.path)

    ends = Ends(handler=wait)
    await ends.feed(GET)
    ends.connection.connection_lost(None)
    await asyncio.sleep(0.01)
    assert gone == ["/"]


@run
async def test_a_client_that_does_not_read_is_not_served():
    ends = Ends()
    ends.connection.pause_writing()
    await ends.feed(GET + GET)
    assert (ends.asked, ends.wire.reading) == ([], False)
    ends.connection.resume_writing()
    await ends.feed(b"")
    await asyncio.sleep(0.01)
    assert (len(ends.asked), ends.wire.reading) == (2, True)
    ends.connection.pause_writing()
    ends.connection.close()
    assert ends.wire.ended == "aborted"


@run
async def test_idle_connections_are_closed_those_that_are_served_are_not():
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return Answer(200, {})

    idle, trickling, served = Ends(keepalive=0.05), Ends(keepalive=0.05), Ends(keepalive=0.05, handler=wait)
    await served.feed(GET)
    for at in range(12):
        await trickling.feed(GET[at : at + 1])
        await asyncio.sleep(0.01)
    assert [ends.wire.ended for ends in (idle, trickling, served)] == ["closed", "closed", None]
    release.set()
    await asyncio.sleep(0.2)
    assert (served.statuses, served.wire.ended) == ([200], "closed")


@run
async def test_what_was_written_last_is_not_kept_for_ever():
    made, patch = [], pytest.MonkeyPatch()
    patch.setattr(http1, "FLUSH", 0.1)

    def make():
        made.append(HttpConnection(answer, keepalive=60.0))
        return made[0]

    async def answer(request):
        transport = made[0]._transport
        while not transport.get_write_buffer_size():
            transport.write(bytes(32_768))  # until the kernel takes no more
        return Answer(200, {})

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        server = await asyncio.get_running_loop().create_server(make, sock=listener)
        client.connect(listener.getsockname())
        client.send(GET.replace(b"Host", b"Connection: close\r\nHost"))
        await asyncio.sleep(0.4)
        server.close()
        patch.undo()
        assert made[0]._transport is None


@run
async def test_who_goes_on_reading_the_last_answer_is_waited_for_and_who_drips_is_not_for_ever():
    patch = pytest.MonkeyPatch()
    patch.setattr(http1, "FLUSH", 0.2)
    steady, stalled, dripping = Ends(keepalive=5.0), Ends(keepalive=5.0), Ends(keepalive=0.3)
    for ends in (steady, stalled, dripping):
        ends.wire.left = 1000
        await ends.feed(GET.replace(b"Host", b"Connection: close\r\nHost"))
    for turn in range(20):
        await asyncio.sleep(0.05)
        steady.wire.left = 1000 - 50 * (turn + 1)
        dripping.wire.left -= 1
        assert turn == 19 or steady.wire.ended is None
    await asyncio.sleep(0.3)
    patch.undo()
    assert [ends.wire.ended for ends in (steady, stalled, dripping)] == ["closed", "aborted", "aborted"]


@run
async def test_who_is_answered_without_a_task_is_not_idle():
    ends, finish = Ends(keepalive=0.05), []
    ends.connection._quick = lambda request, done: finish.append(done) or True
    await ends.feed(GET)
    await asyncio.sleep(0.2)
    assert (len(finish), ends.wire.ended) == (1, None)
    finish[0](Answer(200, {}))
    assert ends.statuses == [200]


@run
async def test_who_asks_on_and_never_reads_the_answers_is_idle():
    ends = Ends(keepalive=0.05)
    await ends.feed(GET)
    ends.connection.pause_writing()
    await ends.feed(GET)
    await asyncio.sleep(0.2)
    assert (ends.statuses, ends.wire.ended) == ([200], "aborted")


@run
async def test_a_handler_that_fails_ends_the_connection():
    async def fail(request):
        raise ZeroDivisionError

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    ends = Ends(handler=fail)
    await ends.feed(GET)
    assert (ends.wire.sent, ends.wire.ended) == ([], "aborted")


class Later:
    """Takes whole requests, and answers them when it is told to."""

    def __init__(self):
        self.finish = []

    def __call__(self, request, finish):
        if request.whole() is None:
            return False
        self.finish.append(finish)
        return True


@run
async def test_a_whole_request_may_be_taken_without_a_task():
    later = Later()
    ends = Ends(quick=later)
    await ends.feed(HEAD % 3 + b"abc" + GET)
    assert (len(later.finish), ends.asked, ends.wire.sent, ends.connection.is_idle) == (1, [], [], False)
    assert not ends.wire.reading
    later.finish[0](Answer(200, {}, b"1"))
    assert (len(later.finish), ends.statuses, ends.wire.reading) == (2, [200], True)
    later.finish[1](Answer(201, {}, b"2"))
    assert (ends.statuses, ends.connection.is_idle) == ([200, 201], True)
    await ends.feed(HEAD % 3, b"abc")  # came in two pieces: the handler reads it
    assert (len(later.finish), ends.asked, ends.statuses) == (2, [("POST", "/v1/x")], [200, 201, 200])


@run
async def test_one_that_was_taken_may_still_need_a_task():
    release, later, gone = asyncio.Event(), Later(), []

    async def wait():
        try:
            await release.wait()
        finally:
            gone.append(True)
        return Answer(200, {}, b"news")

    ends = Ends(quick=later)
    await ends.feed(GET)
    task = later.finish[0](wait)
    await ends.feed(b"")
    assert (ends.wire.sent, ends.connection.is_idle) == ([], False)
    release.set()
    await task
    assert (ends.statuses, ends.connection.is_idle) == ([200], True)
    release.clear()
    await ends.feed(GET)
    task = later.finish[1](wait)
    await ends.feed(b"")
    ends.connection.connection_lost(None)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone == [True, True]


@run
async def test_an_answer_to_one_who_has_gone_goes_nowhere():
    async def never():
        raise AssertionError

    for answer in (Answer(200, {}), never):
        later = Later()
        ends = Ends(quick=later)
        await ends.feed(GET)
        ends.connection.connection_lost(None)
        assert later.finish[0](answer) is None
        assert ends.wire.sent == []


@run
async def test_many_refused_at_once_are_not_too_many():
    def refuse(request, finish):
        asyncio.get_running_loop().call_soon(finish, Answer(429, {}))
        return True

    ends = Ends(quick=refuse)
    ends.connection.data_received(b"GET / HTTP/1.1\r\n\r\n" * 2000)
    while len(ends.wire.sent) < 2000:
        await asyncio.sleep(0)
    assert set(ends.statuses) == {429}
