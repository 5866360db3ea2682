"""Exit codes of the fleet's commands, after sysexits.h where it has a word for it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["PERMANENT", "Exit"]


class Exit(IntEnum):
    """What a process says when it ends; docs and unit files name these numbers."""

    DONE = 0  # the work is finished, or the process was asked to stop and stopped cleanly
    USER = 1  # something only the user can put right; the message says what
    USAGE = 2  # a wrong argument: what argparse ends with
    CONFIG = 64  # the configuration is wrong: starting again changes nothing (EX_USAGE)
    UNREACHABLE = 69  # `fedagg enroll`: nobody answered; a node goes on trying (EX_UNAVAILABLE)
    SOFTWARE = 70  # an error of ours: please report it (EX_SOFTWARE)
    IN_USE = 73  # another process owns the state folder (EX_CANTCREAT)
    STORAGE = 74  # the disk failed or is full at start (EX_IOERR)
    TEMPORARY = 75  # something passing; start again later (EX_TEMPFAIL)
    IDENTITY = 77  # no certificate here, or enrolment was refused: a person has to give a token (EX_NOPERM)
    STATE = 78  # what is in the state folder belongs to another node or a newer version (EX_CONFIG)


PERMANENT = frozenset({Exit.USER, Exit.USAGE, Exit.CONFIG, Exit.IDENTITY, Exit.STATE})
"""Codes after which starting the same process again is useless; a unit's RestartPreventExitStatus lists them."""
