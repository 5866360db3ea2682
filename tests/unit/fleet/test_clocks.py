from fedagg_edge.fleet.clocks import SET, Clocks, Span

NOW = 1.8e9


class Hands:
    """Clocks whose hands are moved by hand."""

    def __init__(self, own=NOW):
        self.own, self.ran = own, 100.0
        self.clocks = Clocks(lambda: self.own, lambda: self.ran)

    def passes(self, seconds):
        self.own += seconds
        self.ran += seconds


def test_nobody_knows_the_time_before_the_parent_has_told_it():
    hands = Hands()
    assert hands.clocks.now() is None
    hands.clocks.heard(NOW + 2.0)
    assert hands.clocks.now() == Span(NOW, NOW + 2.0)


def test_the_told_time_goes_on_by_a_clock_that_no_setting_moves():
    hands = Hands()
    hands.clocks.heard(NOW)
    hands.passes(60.0)
    assert hands.clocks.now() == Span(NOW + 60.0, NOW + 60.0)
    hands.own += 1e6
    assert hands.clocks.now() == Span(NOW + 60.0, NOW + 1e6 + 60.0)
    hands.own -= 2e6
    assert hands.clocks.now() == Span(NOW - 1e6 + 60.0, NOW + 60.0)


def test_what_was_told_last_counts():
    hands = Hands()
    hands.clocks.heard(NOW + 1e6)
    hands.clocks.heard(NOW)
    assert hands.clocks.now() == Span(NOW, NOW)


def test_an_own_clock_that_was_never_set_has_no_say_and_a_parents_tells_nothing():
    hands = Hands(own=1000.0)
    hands.clocks.heard(2000.0)
    assert hands.clocks.now() is None
    hands.clocks.heard(NOW)
    assert hands.clocks.now() == Span(NOW, NOW)
    hands.clocks.heard(2000.0)  # it was started again, and has no battery either
    hands.own = SET
    assert hands.clocks.now() == Span(SET, NOW)
