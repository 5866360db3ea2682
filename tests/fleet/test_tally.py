"""What is kept of runs of kills."""

import json
import time

from tally import keep, merged, section


def test_a_run_replaces_its_own_section_and_leaves_the_others(tmp_path, monkeypatch):
    path = tmp_path / "kills.json"
    monkeypatch.setenv("FEDAGG_KILLS", str(path))
    keep("a", {("device", "x"): 2, ("cloud/train", "y"): 1}, time.monotonic())
    keep("b", {("device", "x"): 4}, time.monotonic())
    keep("a", {("device", "x"): 5}, time.monotonic())
    found = json.loads(path.read_bytes())
    assert found["total"] == {"kills": 9, "lost": 0, "doubled": 0}
    assert found["runs"]["a"]["at"] == {"device": {"x": 5}}
    assert {"commit", "date", "machine", "minutes"} <= set(found["runs"]["b"])


def test_nothing_is_written_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("FEDAGG_KILLS", raising=False)
    monkeypatch.chdir(tmp_path)
    keep("a", {("device", "x"): 2}, time.monotonic())
    assert list(tmp_path.iterdir()) == []


def test_losses_are_summed_too():
    one = section({("device", "x"): 1}, 61.0, lost=2, doubled=3)
    assert merged({"runs": {"a": one}}, "b", one)["total"] == {"kills": 2, "lost": 4, "doubled": 6}
