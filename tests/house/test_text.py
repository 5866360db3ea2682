"""What no file may say, and what all files must agree on."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import fedagg_edge

ROOT = Path(__file__).parents[2]
FOLDERS = ("python", "csrc", "android_bridge", "tests", "docs", "benchmarks", "examples", "tools", "deploy", ".ci")
TEXT = {
    "",
    *[
        ".c",
        ".cc",
        ".cmake",
        ".conf",
        ".cpp",
        ".h",
        ".hpp",
        ".java",
        ".json",
        ".md",
        ".py",
        ".pyi",
        ".service",
        ".sh",
        ".toml",
        ".txt",
        ".yaml",
        ".yml",
    ],
}
GENERATED = {"__pycache__", "build", "runs", ".venv", ".hypothesis", ".pytest_cache"}

# A path of one machine, or the package index that it happens to use, works nowhere else. Spelt so as not to match
# themselves.
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)" + r"/")
INDEX = re.compile(r"(?:extra-)?index" + r"-url|PIP_(?:EXTRA_)?INDEX" + r"_URL|https?://\S+/simple\b", re.IGNORECASE)


def text_files() -> Iterator[Path]:
    yield from (p for p in ROOT.iterdir() if p.is_file() and p.suffix in TEXT and p.name != ".git")
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in TEXT and not GENERATED & set(path.relative_to(ROOT).parts):
                yield path


def faults(text: str) -> list[str]:
    """The machine paths and index hosts in a text."""
    return [match.group() for pattern in (MACHINE, INDEX) for match in pattern.finditer(text)]


def test_no_file_names_this_machine_or_its_package_index() -> None:
    found = {str(path.relative_to(ROOT)): faults(path.read_text(encoding="utf-8")) for path in text_files()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_the_search_can_fail_and_covers_the_repository() -> None:
    assert faults("see " + "/wo" + "rk/main and https://host" + "/simple/numpy --index" + "-url x") != []
    assert faults("../wo" + "rk/x a/ro" + "ot/b https://docs.example/project/numpy") == []
    names = {path.relative_to(ROOT).as_posix() for path in text_files()}
    assert {"pyproject.toml", "python/fedagg_edge/errors.py", "tests/house/test_text.py"} <= names


def has_json_option(source: str) -> bool:
    """Whether a program's source adds the option ``--json``."""
    return any(isinstance(node, ast.Constant) and node.value == "--json" for node in ast.walk(ast.parse(source)))


def test_every_benchmark_can_print_json() -> None:
    programs = [p for p in (ROOT / "benchmarks").glob("*.py") if not p.name.startswith("_")]
    assert [p.name for p in programs if not has_json_option(p.read_text(encoding="utf-8"))] == []
    assert not has_json_option("# --json\nprint('json')")
    assert has_json_option("parser.add_argument('--json')")


def released(changelog: str) -> str | None:
    """The newest version that a changelog has a heading for, or None."""
    match = re.search(r"^## \[?v?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    return match.group(1) if match else None


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert fedagg_edge.__version__ == version
    assert released((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == version
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"fedagg[-_]edge[-= ]+v?(\d+\.\d+\.\d+)", readme)) <= {version}


def test_the_changelog_is_read_as_it_is_written() -> None:
    assert released("# Changelog\n\n## Unreleased\n\n## [1.2.3] - 2026-01-01\n## 1.2.2\n") == "1.2.3"
    assert released("# Changelog\n") is None


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of a Markdown page that lead nowhere."""
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    return [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (page.parent / t).exists()]


def test_links_between_pages_lead_somewhere() -> None:
    pages = [path for path in text_files() if path.suffix == ".md"]
    found = {str(p.relative_to(ROOT)): broken_links(p, p.read_text(encoding="utf-8")) for p in pages}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert broken_links(ROOT / "x.md", "[a](pyproject.toml#b) [c](nowhere.md) [d](https://e.f)") == ["nowhere.md"]


def test_the_map_of_the_fleet_names_each_of_its_modules() -> None:
    text = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
    listed = text.split("\n    fleet/ ")[1].split("\n    cli/ ")[0]
    modules = {path.stem for path in (ROOT / "python" / "fedagg_edge" / "fleet").glob("*.py")} - {"__init__"}
    told = re.sub(r"\([^)]*\)", "", listed)  # what a module is about may name another
    assert modules - set(re.findall(r"[a-z_0-9]+", told)) == set()
