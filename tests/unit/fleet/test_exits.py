from fedagg_edge.fleet.exits import PERMANENT, Exit


def test_codes_fit_a_byte_and_what_passes_is_not_permanent() -> None:
    assert all(0 <= code < 126 for code in Exit)
    assert not PERMANENT & {Exit.DONE, Exit.TEMPORARY, Exit.UNREACHABLE, Exit.STORAGE, Exit.IN_USE}
