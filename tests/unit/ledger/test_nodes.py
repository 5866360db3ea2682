import pytest

from fedagg_edge.errors import DataError
from fedagg_edge.records import Tier


def test_nodes_are_enrolled_leave_and_are_revoked_for_good(cloud):
    cloud.enrol("e1", Tier.EDGE, "01")
    cloud.enrol("d1", Tier.DEVICE, "02")
    cloud.enrol("e1", Tier.EDGE, "03")
    assert cloud.children() == ["d1", "e1"]
    assert (cloud.facts_of("e1").serial, cloud.facts_of("zz")) == ("03", None)
    with pytest.raises(DataError, match="is enrolled as edge"):
        cloud.enrol("e1", Tier.DEVICE, "04")
    cloud.leave("d1")
    assert cloud.children() == ["e1"]
    assert [cloud.revoke("e1"), cloud.revoke("e1"), cloud.revoke("d1")] == [1, 1, 2]
    assert cloud.revoked_serials() == ["01", "02", "03"]
    with pytest.raises(DataError, match="is revoked"):
        cloud.enrol("e1", Tier.EDGE, "05")
    with pytest.raises(DataError, match="not enrolled"):
        cloud.revoke("zz")


def test_a_token_buys_once_before_it_expires(cloud, make):
    second = make()
    cloud.put_token(b"h" * 32, None, Tier.DEVICE, 50.0)
    assert cloud.spend_token(b"h" * 32, 50.0) is None
    assert cloud.spend_token(b"h" * 32, 49.0).role is Tier.DEVICE
    assert second.spend_token(b"h" * 32, 49.0) is None
    assert cloud.spend_token(b"x" * 32, 1.0) is None


def test_usage_adds_up(cloud):
    cloud.count_usage("d1", 1, 10)
    cloud.count_usage("d1", 2, 5)
    assert (cloud.usage("d1").requests, cloud.usage("d1").bytes, cloud.usage("d2").requests) == (3, 15, 0)
