"""The command line is frozen: a new verb or flag changes this list, and whoever reviews that sees it.

A setting belongs into the configuration; a flag is for what changes from one call of the same experiment to the next.
"""

import argparse

from fedagg_edge.cli.main import make_parser

FROZEN = {
    "": ["--help", "--version"],
    "simulate": [
        "--data", "--help", "--json", "--method", "--out", "--overwrite", "--quiet", "--resume", "--rounds", "--seed",
        "CONFIG.toml",
    ],
    "reproduce": [
        "--columns", "--data", "--help", "--keep-checkpoints", "--methods", "--out", "--quiet", "--rounds", "--runs",
        "--scale", "--seeds", "--test", "--validation", "--workers", "TABLE",
    ],
    "new": ["--help", "NAME"],
    "autoencoder": ["--help"],
    "autoencoder train": [
        "--embedding-channels", "--epochs", "--help", "--input-range", "--json", "--key", "--layout", "--limit",
        "--out", "--preset", "--quiet", "--seed", "--split", "DATA",
    ],
    "autoencoder audit": [
        "--epochs", "--help", "--json", "--key", "--layout", "--open-data", "--open-key", "--out", "--picture",
        "--quiet", "--seconds", "--seed", "ARTEFACT", "DATA",
    ],
    "autoencoder show": ["--help", "--json", "ARTEFACT"],
    "export": [
        "--base-dir", "--classes", "--help", "--json", "--options", "--out", "--sample-shape", "--seed", "--to",
        "MODEL",
    ],
    "fleet": ["--help"],
    "fleet up": ["--help", "--knowledge", "--mode", "--out", "--overwrite", "--rounds", "EXPERIMENT.toml"],
    "device": ["--config", "--help"],
    "edge": ["--config", "--help"],
    "cloud": ["--config", "--help"],
    "status": ["--help", "--identity", "--json", "URL"],
    "pull": ["--help", "--identity", "--name", "--out", "URL"],
    "move": ["--help", "--state", "--to", "NODE"],
    "drain": ["--help", "--state", "--to", "--wait"],
    "forget": ["--config", "--help", "--receipt", "--revoke", "--wait", "NODE"],
    "pki": ["--help"],
    "pki init": ["--federation", "--help", "FOLDER"],
    "pki server": ["--help", "--host", "--lifetime", "--node", "--role", "FOLDER", "OUT"],
    "pki token": ["--expires", "--help", "--host", "--node", "--role", "FOLDER"],
    "pki revoke": ["--help", "--node", "--serial", "FOLDER"],
    "enroll": ["--help", "--node", "--role", "--state", "--token", "URL"],
    "doctor": ["--help"],
}  # fmt: skip


def listed(parser: argparse.ArgumentParser, verb: str = "") -> dict[str, list[str]]:
    """Every verb with its long flags and positional arguments, sorted."""
    words, below = [], {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                below |= listed(inner, f"{verb} {name}".strip())
        else:
            words.append(max(action.option_strings, key=len) if action.option_strings else str(action.metavar))
    return {verb: sorted(words), **below}


def test_verbs_and_flags_are_these() -> None:
    assert listed(make_parser()) == FROZEN


def test_the_check_can_fail() -> None:
    parser = make_parser()
    parser.add_argument("--one-more")
    assert listed(parser)[""] == ["--help", "--one-more", "--version"]
