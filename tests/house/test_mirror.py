"""Every module has its own test module at the mirrored path, and no test module outlives its module."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]

# module -> why it has no test module of its own
UNTESTED = {
    "__main__.py": "only calls cli.main.main, as `python -m fedagg_edge`",
    "cloud.py": "only calls cli.main.main, as `python -m fedagg_edge.cloud`",
}


def mirror(module: str) -> str:
    """`learners/zoo.py` -> `learners/test_zoo.py`."""
    path = PurePosixPath(module)
    return str(path.with_name(f"test_{path.name.lstrip('_')}"))


def faults(modules: Iterable[str], tests: Iterable[str], untested: Iterable[str]) -> list[str]:
    """Modules without tests, tests without modules and exceptions that are none."""
    modules, tests, untested = set(modules), set(tests), set(untested)
    wanted = {mirror(module): module for module in modules}
    return (
        [f"{m} has no tests/unit/{t}" for t, m in sorted(wanted.items()) if t not in tests and m not in untested]
        + [f"tests/unit/{test} mirrors no module" for test in sorted(tests - wanted.keys())]
        + [f"{m} is listed as untested but is tested" for m in sorted(untested) if mirror(m) in tests]
        + [f"{m} is listed as untested but is gone" for m in sorted(untested - modules)]
    )


def files(root: Path, pattern: str) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob(pattern)]


def test_tests_mirror_modules() -> None:
    # an __init__ only gathers names; what they do is tested where they are defined
    modules = [m for m in files(ROOT / "python" / "fedagg_edge", "*.py") if not m.endswith("__init__.py")]
    assert faults(modules, files(ROOT / "tests" / "unit", "test_*.py"), UNTESTED) == []


def test_the_check_can_fail() -> None:
    assert faults(["a.py", "b/c.py"], ["test_a.py", "b/test_d.py"], ["gone.py"]) == [
        "b/c.py has no tests/unit/b/test_c.py",
        "tests/unit/b/test_d.py mirrors no module",
        "gone.py is listed as untested but is gone",
    ]
    assert faults(["a.py"], ["test_a.py"], ["a.py"]) == ["a.py is listed as untested but is tested"]
