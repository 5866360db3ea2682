import select
from pathlib import Path

import pytest

from fedagg_edge.ledger.signal import Listener, Signal


@pytest.mark.parametrize("folder", ["s", "long/" * 40])
def test_wake_ups_arrive_also_below_a_long_path_and_after_a_restart(tmp_path, folder):
    path = Path(tmp_path / folder / "wake")
    path.parent.mkdir(parents=True)
    sender = Signal(path)
    assert not sender.notify("nobody listens")
    for _ in range(2):  # the second finds the first one's socket, as after a kill
        listener = Listener(path)
        assert sender.notify("d1")
        assert sender.notify("d2")
        assert select.select([listener], [], [], 5)[0]
        assert listener.topics() == {"d1", "d2"}
        assert listener.topics() == set()
        listener._socket.close()
    Listener(path).close()
    assert not path.exists()
    sender.close()


def test_a_full_queue_does_not_block(tmp_path):
    listener, sender = Listener(tmp_path / "w"), Signal(tmp_path / "w")
    assert not all(sender.notify("x") for _ in range(10_000))
    assert listener.topics() == {"x"}
    listener.close()
    sender.close()
