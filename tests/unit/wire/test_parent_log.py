import pytest
from ends import CHILD, Ends
from toys import embeddings

from fedagg_edge.wire import messages as m
from fedagg_edge.wire.chunks import digest_of, payload_of, split
from fedagg_edge.wire.http import Request
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.tensors import dump_embeddings

SMALL = Limits(chunk=256, inline=1000, entry_bytes=4096, staged=1024, entry_rows=50, samples=60)


@pytest.fixture
def ends(tmp_path):
    made = Ends(tmp_path, SMALL)
    yield made
    made.close()


def asked(rows, key=1, after=0, count=None, digest=m.NOT_COMPUTED):
    payload = payload_of(dump_embeddings(rows), SMALL)
    return m.Append(key, after, m.APPEND, len(rows) if count is None else count, digest, payload, 0)


def post(ends, message):
    return ends.ask(Request("POST", "/v1/append", m.encode(message)))


def code(response):
    return response.status, m.decode(m.Problem, response.body, Limits()).code


def test_committed_once_and_answered_again(ends):
    message = asked(embeddings(CHILD, 3))
    digest = bytes.fromhex(embeddings(CHILD, 3).samples.digest)
    for already in (False, True, True):
        assert m.decode(m.Appended, post(ends, message).body, SMALL) == m.Appended(1, digest, already)
    assert code(post(ends, asked(embeddings(CHILD, 3, start=9)))) == (409, "conflict")
    assert ends.parent.head(CHILD).entry == 1


def test_behind_lists_what_was_missed(ends):
    ends.write("d7", 2)
    response = post(ends, asked(embeddings(CHILD, 3)))
    behind = m.decode(m.Behind, response.body, SMALL)
    assert (response.status, behind.head, [e.key for e in behind.entries]) == (409, 1, [-1])


def test_refusals_change_nothing(ends):
    rows = embeddings(CHILD, 3)
    assert code(post(ends, asked(rows, after=1))) == (409, "conflict")
    assert code(post(ends, asked(rows, count=4))) == (400, "malformed")
    assert code(post(ends, asked(rows, count=51))) == (413, "too_large")
    assert code(post(ends, asked(rows, digest=bytes(31) + b"x"))) == (409, "conflict")
    assert code(post(ends, asked(embeddings("d7", 3)))) == (403, "role")
    assert code(post(ends, m.Append(1, 0, m.FORGET, 3, m.NOT_COMPUTED, asked(rows).payload, 0))) == (400, "malformed")
    rows.label_N[0] = 3
    assert code(post(ends, asked(rows))) == (422, "unfit")
    assert ends.parent.head(CHILD).entry == 0


def test_a_link_takes_so_many_samples(ends):
    assert post(ends, asked(embeddings(CHILD, 40))).status == 200
    assert code(post(ends, asked(embeddings(CHILD, 21, start=40), key=2, after=1))) == (413, "too_large")
    assert ends.parent.head(CHILD).entry == 1


def test_chunks_are_staged_first(ends):
    data = dump_embeddings(embeddings(CHILD, 50))
    payload = payload_of(data, SMALL, inline=10)
    message = m.Append(1, 0, m.APPEND, 50, m.NOT_COMPUTED, payload, 0)
    assert code(post(ends, message)) == (409, "missing")
    for chunk in split(data, 256):
        put = Request("PUT", f"/v1/chunks/{digest_of(chunk).hex()}", chunk)
        assert ends.ask(put).status == ends.ask(put).status == 204
    assert post(ends, message).status == 200
    assert ends.parent.staged(CHILD) == 0


def test_chunks_of_an_entry_that_is_there_already_are_let_go(ends):
    """Its answer was lost, and a child that began anew sent them again."""
    data = dump_embeddings(embeddings(CHILD, 50))
    message = m.Append(1, 0, m.APPEND, 50, m.NOT_COMPUTED, payload_of(data, SMALL, inline=10), 0)
    for already in (False, True, True):
        for chunk in split(data, 256):
            assert ends.ask(Request("PUT", f"/v1/chunks/{digest_of(chunk).hex()}", chunk)).status == 204
        assert m.decode(m.Appended, post(ends, message).body, SMALL).already is already
        assert ends.parent.staged(CHILD) == 0


def test_only_so_much_is_staged(ends):
    for i in range(4):
        chunk = bytes([i]) * 256
        assert ends.ask(Request("PUT", f"/v1/chunks/{digest_of(chunk).hex()}", chunk)).status == 204
    assert code(ends.ask(Request("PUT", f"/v1/chunks/{digest_of(b'x').hex()}", b"x"))) == (413, "too_large")
    long = bytes(257)
    assert code(ends.ask(Request("PUT", f"/v1/chunks/{digest_of(long).hex()}", long))) == (413, "too_large")


@pytest.mark.parametrize("fault", ["lost request", "lost answer", "restart"])
def test_a_batch_whose_rows_were_all_forgotten_while_it_waited(ends, fault):
    """It comes without a row, under its key: it may have been committed before they were forgotten."""
    ends.trip()
    ends.send(3)
    ends.trip(fault)
    ends.child.retire(embeddings(CHILD, 3).samples)
    ends.send(2, start=10)
    ends.settle()
    assert not [e for e in ends.events if type(e).__name__ == "Refused"]
    assert ends.child.samples(CHILD).digest == ends.parent.samples(CHILD).digest
    assert len(ends.parent.samples(CHILD)) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_of_which_rows_were_forgotten_at_both_ends_before_its_answer_came(ends, count):
    ends.trip()
    ends.send(3)
    ends.trip("lost answer")
    ends.parent.forget(CHILD)  # an operator's order
    ends.child.retire(embeddings(CHILD, count).samples)  # the device's own retention
    ends.settle()
    assert not [e for e in ends.events if type(e).__name__ == "Refused"]
    assert ends.child.samples(CHILD).digest == ends.parent.samples(CHILD).digest
    assert len(ends.parent.samples(CHILD)) == 0


def test_an_append_without_rows_is_an_entry_like_others(ends):
    done = m.decode(m.Appended, post(ends, asked(embeddings(CHILD, 0))).body, Limits())
    assert (done.entry, len(ends.parent.samples(CHILD))) == (1, 0)
    assert m.decode(m.Appended, post(ends, asked(embeddings(CHILD, 0))).body, Limits()).already
