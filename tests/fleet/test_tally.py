"""What is kept of runs of kills."""

import json
import subprocess

import pytest
import tally
from tally import begin, keep, merged, section


def test_a_run_replaces_its_own_section_and_leaves_the_others(tmp_path, monkeypatch):
    path = tmp_path / "kills.json"
    monkeypatch.setenv("FEDAGG_KILLS", str(path))
    keep("a", {("device", "x"): 2, ("cloud/train", "y"): 1}, begin())
    keep("b", {("device", "x"): 4}, begin(), lost=0, doubled=0)
    keep("a", {("device", "x"): 5}, begin())
    found = json.loads(path.read_bytes())
    assert found["total"] == {"kills": 9, "lost": 0, "doubled": 0}
    assert found["runs"]["a"]["at"] == {"device": {"x": 5}}
    assert {"commit", "date", "machine", "minutes"} <= set(found["runs"]["b"])


def test_nothing_is_written_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("FEDAGG_KILLS", raising=False)
    monkeypatch.chdir(tmp_path)
    keep("a", {("device", "x"): 2}, begin())
    assert list(tmp_path.iterdir()) == []


def test_losses_are_summed_too():
    one = section({("device", "x"): 1}, 61.0, lost=2, doubled=3)
    assert merged({"runs": {"a": one}}, "b", one)["total"] == {"kills": 2, "lost": 4, "doubled": 6}


def test_what_was_not_counted_is_not_said_to_be_none():
    one = section({("device", "x"): 1}, 61.0)
    assert {"lost", "doubled"} & set(one) == set()
    assert merged({"runs": {"a": one}}, "b", one)["total"] == {"kills": 2, "lost": 0, "doubled": 0}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A function that changes a file of a repository of its own, commits that or not, and says the commit."""
    monkeypatch.setattr(tally, "ROOT", tmp_path)
    monkeypatch.setenv("FEDAGG_KILLS", str(tmp_path / "docs" / "kills.json"))
    (tmp_path / "docs").mkdir()
    name = ("-c", "user.name=n", "-c", "user.email=e@example")

    def change(text, *, commit=True, file="code"):
        (tmp_path / file).write_text(text)
        for words in (("add", "-A"), (*name, "commit", "-qm", text)) if commit else ():
            subprocess.run(["git", *words], cwd=tmp_path, check=True)
        return tally._git("rev-parse", "--short=8", "HEAD")

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return change


def kept_commit(began):
    keep("a", {("device", "x"): 1}, began)
    return json.loads((tally.ROOT / "docs" / "kills.json").read_bytes())["runs"]["a"]["commit"]


def test_a_run_is_of_the_commit_that_it_began_with(repository):
    first = repository("one")
    began = begin()
    assert kept_commit(began) == first
    repository("kept", file="docs/kills.json")  # what it writes itself changes nothing
    (tally.ROOT / "docs" / "kills.json").unlink()
    assert kept_commit(began) == first
    later = repository("two")
    assert first != later
    assert kept_commit(began) == first + "+"  # its processes may have run either
    assert kept_commit(begin()) == later


def test_what_was_changed_at_the_start_or_until_the_end_has_a_plus(repository):
    first = repository("one")
    began = begin()
    repository("two", commit=False)
    assert kept_commit(began) == first + "+"
    began = begin()
    repository("one", commit=False)
    assert kept_commit(began) == first + "+"
    assert kept_commit(begin()) == first
