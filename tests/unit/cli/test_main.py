import argparse
import signal
import subprocess
import sys

import pytest

import fedagg_edge
from fedagg_edge.cli import doctor, main
from fedagg_edge.errors import ConfigError


@pytest.fixture
def failing(monkeypatch):
    """Let `fedagg doctor` raise."""

    def patch(error):
        def run(args):
            raise error

        monkeypatch.setattr(doctor, "run", run)

    return patch


def test_the_version(fedagg):
    assert fedagg("--version") == (0, f"fedagg-edge {fedagg_edge.__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["simulat"], ["simulate"], ["new"], ["doctor", "x"], ["simulate", "a", "--x"]])
def test_wrong_use_is_exit_2_with_the_usage(fedagg, words):
    code, out, err = fedagg(*words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: fedagg")


def verbs_of(parser):
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return found.choices


def test_one_verbs_parser_is_the_whole_commands_and_imports_no_other_verb():
    whole = verbs_of(main.make_parser())
    assert list(whole) == list(main._MODULES)
    for verb, parser in whole.items():
        alone = main.make_parser(verb)
        assert verbs_of(alone)[verb].format_help() == parser.format_help()
        assert alone.format_usage() == main.make_parser().format_usage()
    program = "import sys, fedagg_edge.cli.main as m; m.make_parser('device'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    mine = {m for m in loaded if m.startswith("fedagg_edge.cli.")}
    assert mine == {"fedagg_edge.cli.main", "fedagg_edge.cli.node"}


def every_command(parser, words=()):
    yield list(words)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from every_command(below, (*words, word))


@pytest.mark.parametrize("words", list(every_command(main.make_parser())), ids=" ".join)
def test_help(fedagg, words):
    code, out, err = fedagg(*words, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: fedagg")


def test_what_the_user_can_mend_is_one_line_and_exit_1(fedagg, failing):
    failing(ConfigError("a.toml: rounds: got 0"))
    assert fedagg("doctor") == (1, "", "fedagg: a.toml: rounds: got 0\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/x/y"), "fedagg: /x/y: Permission denied\n"),
        (OSError(28, "No space left on device"), "fedagg: i/o error: No space left on device\n"),
        (ImportError("FEDAGG_FORCE_ISA: got 'mmx'"), "fedagg: FEDAGG_FORCE_ISA: got 'mmx'\n"),
        (
            ModuleNotFoundError(name="cryptography.x509"),
            "fedagg: cryptography is not installed; run: pip install 'fedagg-edge[enroll]'\n",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line_too(fedagg, failing, error, line):
    failing(error)
    assert fedagg("doctor") == (1, "", line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_do_what_they_did_once_the_command_is_done(fedagg, number):
    def own(number, frame):
        """What the program around the command does."""

    before = signal.signal(number, own)
    try:
        fedagg("doctor")
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("error", [ValueError("ours"), ImportError("no torch"), ZeroDivisionError()])
def test_a_bug_is_not_hidden(fedagg, failing, error):
    failing(error)
    with pytest.raises(type(error)):
        fedagg("doctor")


def test_an_interrupt_is_exit_130_with_what_to_do(fedagg, failing):
    failing(KeyboardInterrupt("; go on with: this"))
    assert fedagg("doctor") == (130, "", "\nfedagg: stopped; go on with: this\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_interrupt(fedagg, monkeypatch, number):
    signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore it; `fedagg` puts back what was there
    monkeypatch.setattr(doctor, "run", lambda args: signal.raise_signal(number) or 0)
    assert fedagg("doctor") == (130, "", "\nfedagg: stopped\n")


def test_a_signal_that_is_ignored_stays_ignored(fedagg, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr(doctor, "run", lambda args: signal.raise_signal(signal.SIGINT) or 7)
        assert fedagg("doctor")[0] == 7
    finally:
        signal.signal(signal.SIGINT, before)


_IMPATIENT = """
import os, signal
from fedagg_edge.cli import doctor, main

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it

def stopped_twice(args):
    try:
        signal.raise_signal(signal.SIGINT)
    finally:  # files are being closed
        os.kill(os.getpid(), signal.{second})

doctor.run = stopped_twice
main.main(["doctor"])
"""


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_who_asks_again_ends_the_process_without_a_traceback(second):
    done = subprocess.run(
        [sys.executable, "-c", _IMPATIENT.format(second=second)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-getattr(signal, second), "", "")


def test_the_exit_code_is_the_verbs(fedagg, monkeypatch):
    monkeypatch.setattr(doctor, "run", lambda args: 7)
    assert fedagg("doctor")[0] == 7


def test_a_reader_that_left_is_no_traceback(command):
    process = subprocess.Popen([*command, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_wrong_instruction_set_is_named(command, monkeypatch):
    monkeypatch.setenv("FEDAGG_FORCE_ISA", "mmx")
    done = subprocess.run([*command, "doctor"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fedagg: FEDAGG_FORCE_ISA: got 'mmx', expected one")
    assert done.stderr.count("\n") == 1


def test_the_parser_names_the_program_whatever_started_it():
    assert main.make_parser().prog == "fedagg"
