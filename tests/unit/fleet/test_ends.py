from toy_ends import ToyHandler, ToyLedger, ToyTalker

from fedagg_edge.fleet.ends import Handler, Talker


def test_the_toys_fit_the_protocols() -> None:
    handler: Handler[ToyLedger] = ToyHandler()
    talker: Talker = ToyTalker(1)
    assert talker.next(0.0) is not None
    assert handler is not None
