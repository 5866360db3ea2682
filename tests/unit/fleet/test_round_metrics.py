import pytest

from fedagg_edge.errors import StorageError
from fedagg_edge.fleet.gateway_metrics import GatewayMetrics
from fedagg_edge.fleet.metrics import Registry
from fedagg_edge.fleet.round_metrics import MetricsFile, metrics_file, round_metrics

ROW = {"version": 7, "at": 1e9, "seconds": 1.5, "rows": 40, "loss": 0.25, "accuracy": None, "late": 2, "silent": 1,
       "refused": 0, "set_aside": 3, "schema": 1}  # fmt: skip


def values(text):
    return dict(line.split() for line in text.splitlines() if not line.startswith("#"))


def test_a_round_and_what_is_now(tmp_path):
    found = values(round_metrics(ROW, present=4, waiting=5, offline=True).render())
    assert found["fedagg_round"] == "7"
    names = ("round_loss", "round_late", "set_aside_rows", "children", "waiting_batches", "parent_offline")
    assert [found[f"fedagg_{name}"] for name in names] == ["0.25", "2", "3", "4", "5", "1"]
    assert "fedagg_accuracy" not in found
    assert metrics_file(tmp_path).parent == tmp_path


def test_before_the_first_round_and_without_a_parent():
    assert values(round_metrics({}, present=0, waiting=0, offline=None).render()) == {"fedagg_children": "0"}
    row = {**ROW, "finished": True, "accuracy": 0.5}
    found = values(round_metrics(row, present=1, waiting=0, offline=None).render())
    assert (found["fedagg_finished"], found["fedagg_accuracy"]) == ("1", "0.5")


def test_the_names_are_not_the_gateways():
    registry = Registry()
    GatewayMetrics(registry)
    text = round_metrics({**ROW, "accuracy": 1.0, "finished": 0}, present=1, waiting=1, offline=False).render()
    assert not {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} & set(registry._metrics)


class Lines:
    def __init__(self):
        self.failures = []

    def failure(self, event, error):
        self.failures.append(event)


def made():
    return round_metrics(ROW, present=1, waiting=0, offline=False)


def test_a_look_is_due_now_and_then_or_after_a_round(tmp_path):
    file = MetricsFile(tmp_path / "x", Lines())
    file.tell(made)
    file.path.unlink()
    file.tell(lambda: round_metrics(ROW, present=2, waiting=0, offline=False))  # seconds later
    assert not file.path.exists()
    file.hurry()
    file.tell(made)  # nothing new
    assert not file.path.exists()
    file.hurry()
    file.tell(lambda: round_metrics(ROW, present=2, waiting=0, offline=False))
    assert values(file.path.read_text())["fedagg_children"] == "2"


def test_an_error_is_logged_once_until_it_is_over(tmp_path):
    def broken():
        raise ValueError("no number")

    log = Lines()
    file = MetricsFile(tmp_path / "x", log)
    for make in (broken, broken, made, broken):
        file.hurry()
        file.tell(make)
    assert log.failures == ["metrics_failed"] * 2


def test_what_the_ledger_cannot_do_is_raised(tmp_path):
    def broken():
        raise StorageError("the ledger is gone")

    with pytest.raises(StorageError):
        MetricsFile(tmp_path / "x", Lines()).tell(broken)
