import pytest

from fedagg_edge.cli.main import main
from fedagg_edge.fleet import moving
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier


@pytest.fixture
def device(tmp_path):
    options = Options(tier=Tier.DEVICE)
    made = Ledger.open(tmp_path / "ledger.sqlite", node=NodeId("d1"), federation="f", options=options)
    yield made
    made.close()


def test_a_node_is_told_where_to_go(device, tmp_path, capsys):
    urls = ["https://a:1", "https://b:1"]
    assert main(["move", "d1", "--to", urls[0], "--to", urls[1], "--state", str(tmp_path)]) == 0
    assert moving.wanted(device) == tuple(urls)
    assert "d1 will move to https://a:1" in capsys.readouterr().out


def test_a_mistake_is_said(device, tmp_path, capsys):
    assert main(["move", "d2", "--to", "https://a:1", "--state", str(tmp_path)]) == 1
    assert "got 'd2', expected 'd1' itself" in capsys.readouterr().err
    assert main(["move", "d1", "--to", "https://a:1", "--state", str(tmp_path / "x")]) == 1
    assert "no node's state is here" in capsys.readouterr().err
