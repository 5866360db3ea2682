"""For every test: hypothesis counts no seconds, and signals are handled as before it. Hypothesis' deadline of 200 ms is
wall-clock time, which no test asserts: a busy machine, or one that is emulated, is slow and not wrong."""

import signal

import pytest
from hypothesis import settings

settings.register_profile("fedagg", deadline=None)
settings.load_profile("fedagg")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or no test's process could be interrupted


@pytest.fixture(autouse=True)
def signals_as_before():
    """A command that is run in this process takes SIGTERM and SIGINT for its own: the next test's would go to it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
