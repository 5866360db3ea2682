import io
import re
import sys

import pytest

from fedagg_edge.simulation import progress
from fedagg_edge.simulation.progress import Bars, Lines, Silent, make_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def whole_run(speaker):
    speaker.stage("training [the] autoencoder")
    speaker.part(3, 7, "epochs")
    speaker.start(1, 3, 4)
    for number in (1, 2):
        for node in ("device-000", "cloud"):
            speaker.trained(node)
        speaker.finished(number, "cloud 12.3%")
    speaker.close()


def test_lines_say_rounds_accuracy_and_what_is_left():
    out = io.StringIO()
    whole_run(Lines(out))
    first, second, third = out.getvalue().splitlines()
    assert first == "training [the] autoencoder"
    assert re.fullmatch(r"round 2/3  cloud 12.3%  \d+\.\d s/round, \d+ s left", second)
    assert re.fullmatch(r"round 3/3  cloud 12.3%  \d+\.\d s/round, 0 s left", third)


def test_the_time_left_goes_by_the_rounds_of_this_process(monkeypatch):
    out, now = io.StringIO(), [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(out)
    lines.start(6, 10, 1)
    now[0] = 104.0
    lines.finished(7, "x")  # two rounds in four seconds, two more to come
    assert out.getvalue() == "round 8/10  x  2.0 s/round, 4 s left\n"


def test_a_long_stage_says_now_and_then_how_far_it_is(monkeypatch):
    out, now = io.StringIO(), [50.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(out)
    lines.stage("references")
    for done in range(1, 31):
        now[0] += 1
        lines.part(done, 30, "passes")
    assert out.getvalue().splitlines() == ["references", "  passes 11/30", "  passes 22/30"]


def test_a_long_round_too(monkeypatch):
    out, now = io.StringIO(), [50.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(out)
    lines.start(0, 2, 4)
    for number in (0, 1):
        for _ in range(4):
            now[0] += 11
            lines.trained("cloud")
        lines.finished(number, "x")
    told = [line for line in out.getvalue().splitlines() if "passes" in line]
    assert told == [f"  passes of this round {n}/4" for n in (1, 2, 3, 4)] * 2


def test_silence(capsys):
    whole_run(Silent())
    assert capsys.readouterr() == ("", "")


def test_bars_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    bars = make_progress(quiet=False)
    assert isinstance(bars, Bars)
    whole_run(bars)
    text = sys.stderr.getvalue()
    assert "training [the] autoencoder" in text
    assert "cloud 12.3%" in text
    assert "3/3" in text


def test_lines_where_there_is_no_terminal_or_no_rich(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(make_progress(quiet=False)) is Lines
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert type(make_progress(quiet=False)) is Lines
    assert type(make_progress(quiet=True)) is Silent


@pytest.mark.parametrize("speaker", [Silent(), Lines(io.StringIO())])
def test_closing_early_and_twice_is_fine(speaker):
    speaker.stage("x")
    speaker.close()
    speaker.close()
