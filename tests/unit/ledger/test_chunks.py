import hashlib

import pytest

from fedagg_edge.errors import DataError, RemoteProtocolError, StorageFull


def test_chunks_are_staged_per_node_named_by_content_and_bounded(make):
    cloud = make(staged=10)
    a, b = b"aaaaaa", b"bbbb"
    digests = [hashlib.sha256(part).digest() for part in (a, b)]
    with pytest.raises(RemoteProtocolError, match="do not have the digest"):
        cloud.stage("n", digests[0], b)
    cloud.stage("n", digests[0], a)
    cloud.stage("n", digests[0], a)
    assert cloud.missing("n", digests) == (digests[1],)
    assert cloud.missing("m", digests) == tuple(digests)
    with pytest.raises(DataError, match="is not staged"):
        cloud.take("n", digests)
    cloud.stage("n", digests[1], b)
    with pytest.raises(StorageFull, match="10 of 10 are staged"):
        cloud.stage("n", hashlib.sha256(b"c").digest(), b"c")
    assert cloud.take("n", digests) == a + b
    assert cloud.missing("n", digests) == tuple(digests)
    cloud.stage("n", digests[1], b)
    assert cloud.drop_staged(older_than=999.0) == 0
    assert cloud.drop_staged(older_than=1001.0) == 1
