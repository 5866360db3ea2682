from dataclasses import replace

import numpy as np

from fedagg_edge.fleet.weights import Saved, load_newest, newest_version, save
from fedagg_edge.learners.base import Entry, LearnerState


def saved(version):
    state = LearnerState((Entry("w", (3,), trained=True),), np.full(3, version, np.float32), {}, version)
    return Saved(version, state, {"a->b": version})


def test_the_newest_comes_back_and_the_one_before_stays(tmp_path):
    assert load_newest(tmp_path / "none") == (None, [])
    assert newest_version(tmp_path) is None
    for version in range(4):
        save(tmp_path, saved(version))
    found, problems = load_newest(tmp_path)
    assert (found.version, found.trained, found.state.steps, problems) == (3, {"a->b": 3}, 3, [])
    np.testing.assert_array_equal(found.state.weights, [3, 3, 3])
    assert newest_version(tmp_path) == 3
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_turn_with_a_parent_that_is_behind_has_a_checkpoint_that_is_not(tmp_path):
    save(tmp_path, saved(6))
    save(tmp_path, replace(saved(7), turn=5, parent="b"))
    found, _ = load_newest(tmp_path)
    assert (found.version, found.done, found.parent) == (7, 5, "b")
    assert (saved(6).done, saved(6).parent) == (6, None)


def test_a_damaged_one_is_told_and_the_one_before_is_taken(tmp_path):
    for version in range(2):
        save(tmp_path, saved(version))
    path = tmp_path / "round-000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    found, problems = load_newest(tmp_path)
    assert found.version == 0
    assert len(problems) == 1
    assert "damaged" in problems[0]
    (tmp_path / "round-000000.json").write_text("{}")
    assert load_newest(tmp_path)[0] is None
