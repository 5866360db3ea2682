import pytest

from fedagg_edge.cli.main import main
from fedagg_edge.fleet import operating
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier


@pytest.fixture
def edge(tmp_path):
    options = Options(tier=Tier.EDGE)
    made = Ledger.open(tmp_path / "ledger.sqlite", node=NodeId("e1"), federation="f", options=options)
    made.enrol(NodeId("d1"), Tier.DEVICE, "01")
    yield made
    made.close()


def test_an_edge_whose_children_have_gone_may_stop(edge, tmp_path, capsys):
    assert main(["drain", "--state", str(tmp_path)]) == 0
    assert "all have gone; stop the edge now" in capsys.readouterr().out
    assert len(edge.notices(NodeId("d1"), 0)) == 1


def test_who_stays_is_named_and_the_code_says_it(edge, tmp_path, capsys, monkeypatch):
    left = operating.Remaining((NodeId("d1"),), 2)

    def never(ledger, seconds, on_change):
        assert seconds == 1800.0
        on_change(left)
        return left

    monkeypatch.setattr(operating, "drain_until_empty", never)
    assert main(["drain", "--state", str(tmp_path)]) == 75
    out = capsys.readouterr().out
    assert "1 children and 2 batches are still here d1" in out
    assert "parent.fallback" in out


def test_the_page_says_what_to_do(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["drain", "--help"])
    assert "stop the edge" in " ".join(capsys.readouterr().out.split())
