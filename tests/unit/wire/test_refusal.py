from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.refusal import Refusal


def test_a_refusal_is_a_broken_exchange_with_a_status():
    refusal = Refusal(429, "rate", "too many", 2.0)
    assert isinstance(refusal, RemoteProtocolError)
    assert (refusal.status, refusal.code, str(refusal), refusal.retry_after) == (429, "rate", "too many", 2.0)
