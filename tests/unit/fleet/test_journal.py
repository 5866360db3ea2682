import json

from fedagg_edge.fleet.journal import append


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_is_there_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert [append(path, {"version": v}) for v in (0, 0, 1, 1, 0)] == [True, False, True, False, True]
    assert rows(path) == [{"version": 0}, {"version": 1}, {"version": 0}]


def test_a_row_that_ends_like_another_is_another(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'1{"version": 0}\n')
    assert append(path, {"version": 0})


def test_half_a_line_of_a_killed_writer_is_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, {"version": 0})
    with path.open("ab") as f:
        f.write(b'{"version": 1, "los')
    append(path, {"version": 1})
    assert rows(path) == [{"version": 0}, {"version": 1}]
    path.write_bytes(b'{"ver')
    append(path, {"version": 0})
    assert rows(path) == [{"version": 0}]
