from fedagg_edge.ledger import payloads


def test_equal_bytes_are_kept_once_and_read_in_parts(cloud):
    number = payloads.keep(cloud.db, b"0123456789")
    assert payloads.keep(cloud.db, b"0123456789") == number
    assert payloads.read(cloud.db, number) == b"0123456789"
    assert payloads.read(cloud.db, number, 2, 3) == b"234"
    assert payloads.read(cloud.db, number, 8) == b"89"
    assert payloads.drop_unused(cloud.db, number) == 10
    assert payloads.drop_unused(cloud.db, number) == 0


def test_what_an_entry_names_stays(cloud):
    cloud.append("a", 2, b"FAS1\0\0", key=1, by="child")
    assert payloads.drop_unused(cloud.db, payloads.keep(cloud.db, b"FAS1\0\0")) == 0
