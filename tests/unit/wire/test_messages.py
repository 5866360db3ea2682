import re
from pathlib import Path

import pytest

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire import messages as m
from fedagg_edge.wire.limits import Limits

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"
KINDS = [k for n in m.__all__ if isinstance(k := getattr(m, n), type) and issubclass(k, m.Message) and k != m.Message]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_the_page_lists_the_fields_in_their_order(kind):
    block = re.search(rf"^    {kind.__name__}: (.*(?:\n        .*)*)", PAGE.read_text(), re.MULTILINE)
    assert block is not None
    assert [f.split()[0] for f in re.split(r",\s+", block[1])] == list(kind.__struct_fields__)


def test_nothing_may_be_left_out_or_stand_beside():
    body = m.encode(m.Adopted(2, 9))
    assert m.decode(m.Adopted, body, Limits()) == m.Adopted(2, 9)
    for wrong in (b"\x91\x02", b"\x93\x02\x09\x00"):
        with pytest.raises(RemoteProtocolError, match="adopted"):
            m.decode(m.Adopted, wrong, Limits())


def test_the_first_fields_of_hello_are_read_whatever_follows():
    assert m.decode(m.Versions, b"\x95\x01\x03\xa1x\xc0\xc0", Limits()) == m.Versions(1, 3, "x")


@pytest.mark.parametrize("field", ["key", "after", "rows", "fence"])
def test_counters_are_not_negative(field):
    message = m.Append(1, 2, 1, 3, bytes(32), m.Payload(0, bytes(32)), 0)
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    with pytest.raises(RemoteProtocolError, match=rf"append.{field}: got -1"):
        m.decode(m.Append, m.encode(m.Append(**{**values, field: -1})), Limits())
