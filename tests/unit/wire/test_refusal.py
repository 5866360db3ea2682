from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.refusal import Refusal


def test_a_refusal_carries_what_it_is_answered_with():
    refusal = Refusal(429, "rate", "slow down", 2.0)
    assert isinstance(refusal, RemoteProtocolError)
    assert (refusal.status, refusal.code, str(refusal), refusal.retry_after) == (429, "rate", "slow down", 2.0)
