import struct

from reproduce.making import row

from fedagg_edge.reproduce.plots import _columns, colours, draw
from fedagg_edge.reproduce.report import Section
from fedagg_edge.reproduce.tables import METHODS, PRESETS, Setting, Variant

SECTION = Section("cifar10", Setting(225, 3.0), (0.1, 2, 1000, 0))


def some(last=0.5):
    return [
        row(round=i, accuracy=a, method=method, tier=tier, seed=seed)
        for method in ("fedagg", "hierfavg")
        for tier in ("cloud", "device")
        for seed in (0, 1)
        for i, a in enumerate((0.1, last))
    ]


def test_a_picture_a_section(tmp_path):
    rows = [*some(), row(devices=400, method="alone", tier="device")]
    found = draw(rows, tmp_path)
    assert found[SECTION] == "img/results-cifar10-225-a3-x0.1-t1000-r2.png"
    assert len(found) == 2
    for name in found.values():
        head = (tmp_path / name).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", head[16:24]) == (990, 342)


def test_pictures_show_the_data_and_nothing_else(tmp_path):
    def drawn(folder, last):
        return (tmp_path / folder / draw(some(last), tmp_path / folder)[SECTION]).read_bytes()

    assert drawn("a", 0.5) == drawn("b", 0.5)
    assert drawn("c", 0.5) != drawn("d", 0.6)


def test_presets_of_a_method_are_shades_of_its_colour():
    one = colours([Variant("fedagg", "open")])[Variant("fedagg", "open")]
    several = colours([Variant("fedagg", p) for p in ("tuned", "default", "open")])
    assert several[Variant("fedagg", "default")] == one  # the one in the middle
    assert sum(several[Variant("fedagg", "tuned")]) < sum(one) < sum(several[Variant("fedagg", "open")])


def test_no_two_lines_are_alike():
    found = colours([Variant(m, p) for m in METHODS for p in PRESETS])
    assert len({tuple(round(255 * c) for c in colour) for colour in found.values()}) == len(METHODS) * len(PRESETS)
    assert all(0 <= c <= 1 for colour in found.values() for c in colour)


def test_long_names_take_fewer_columns_than_short_ones():
    assert [_columns(["FedAgg"] * 9), _columns(["FedAgg", "x" * 38]), _columns(["x" * 400]), _columns([])] == [
        5,
        3,
        1,
        5,
    ]
