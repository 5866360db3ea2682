def test_a_child_gets_its_own_and_everybodys_in_order(cloud):
    cloud.notify("a", "renew", b"1")
    cloud.notify("b", "move", b"2")
    cloud.notify(None, "drain", b"3")
    assert [(n.number, n.kind) for n in cloud.notices("a", 0)] == [(1, "renew"), (3, "drain")]
    assert [n.body for n in cloud.notices("b", 2)] == [b"3"]
    assert cloud.notices("b", 3) == []
