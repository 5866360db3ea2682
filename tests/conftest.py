"""For every test: hypothesis counts no seconds. Its deadline of 200 ms is wall-clock time, which no test asserts: a
busy machine, or one that is emulated, is slow and not wrong."""

from hypothesis import settings

settings.register_profile("fedagg", deadline=None)
settings.load_profile("fedagg")
