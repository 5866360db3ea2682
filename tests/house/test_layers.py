"""Who may import whom: dependencies point one way, modules form no cycle, heavy packages stay in their corner.

Everything is read from the source with `ast`; nothing is imported. Each check is a function of {module: source}, so
that the last tests can show that it fails when it should.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "fedagg_edge"
ROOT = Path(__file__).parents[2] / "python" / PACKAGE

# Modules and packages, lowest first: each may import its own layer and those below. A module named with its package
# stands apart from it. The simulator's package is `simulation`, as `fedagg_edge.simulate` is the function.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "extras", "failpoints", "files", "lock", "records"),
    ("_core", "kernels", "reference", "config", "tree", "seeds", "plugins", "npz", "holdout", "views"),
    (
        "datasets",
        "partition",
        "samples",
        "store",
        "checkpoint",
        "packing",
        "learners",
        "export",
        "autoencoder",
        "identity",
    ),
    ("wire",),
    ("ledger",),
    (
        "bridge",
        "decode_cache",
        "distill",
        "passes",
        "teachers",
        "autoencoder.train",
        "autoencoder.attack",
    ),  # both measure through the bridge
    ("node",),
    ("fleet",),
    ("simulation",),
    ("baselines",),  # methods of the simulator beside FedAgg; what runs them by name is above them
    ("simulation.run", "fleet.plan", "fleet.up"),
    ("reproduce",),  # the paper's tables: many simulations, and their report
    ("cli",),
    ("__main__", "cloud"),
)

# What a module may import beside the standard library and the package itself, by its top-level name.
EVERYWHERE = {"numpy", "msgspec", "safetensors"}
CORNERS = {
    "httptools": {"fleet"},
    "torch": {"learners", "export", "autoencoder"},
    "flatbuffers": {"export"},
    "ai_edge_litert": {"learners", "export"},
    "tflite_runtime": {"learners"},
    "executorch": {"export"},  # learners load its compiled binding by name
    "sklearn": {"datasets"},
    "scipy": {"baselines"},
    "matplotlib": {"simulation", "reproduce", "cli"},
    "rich": {"simulation", "cli"},
    "cryptography": {"identity"},
    "tomli_w": {"fleet"},
}
UNPICKLING = {"pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}

# The algorithm opens no socket, file or clock, starts no thread and draws no unnamed random number.
PURE = ("records", "tree", "seeds", "packing", "distill", "passes", "node")
IMPURE = {
    "asyncio",
    "datetime",
    "http",
    "io",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}

Sources = Mapping[str, str]


def sources() -> dict[str, str]:
    """{dotted module: source} of the whole package."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(module: str, source: str, *, at_import_only: bool = False) -> Iterator[str]:
    """Every dotted name that a module imports; ``from a import b`` gives ``a.b``.

    `at_import_only` leaves out what runs later, in functions, and what never runs, under TYPE_CHECKING.
    """
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if at_import_only and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: line {node.lineno}: relative import, expected {PACKAGE}.<module>"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)


def layer_of(module: str) -> int:
    """The layer of a dotted module; the package itself, which only names what is public, is above all."""
    if module == PACKAGE:
        return len(LAYERS)
    place_of = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    name = module.removeprefix(f"{PACKAGE}.")
    while name and name not in place_of:
        name = name.rpartition(".")[0]
    assert name, f"{module}: not in LAYERS of {__file__}; give it a place"
    return place_of[name]


def own_module(name: str, known: Sources) -> str | None:
    """The longest prefix of a dotted import that is a module of the package."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def upward_imports(known: Sources) -> list[str]:
    wrong = []
    for module, source in known.items():
        for name in imports(module, source):
            target = own_module(name, known)
            if target not in (None, PACKAGE) and layer_of(target) > layer_of(module):
                wrong.append(f"{module} imports {target}, which is above it")
    return wrong


def cycles(known: Sources) -> list[str]:
    """Modules that need one another to be imported: what is left without those that need none or that none needs."""
    needs = {
        module: {own_module(n, known) for n in imports(module, source, at_import_only=True)} - {None, module, PACKAGE}
        for module, source in known.items()
    }
    while True:
        needed = set().union(*needs.values())
        left = {module: wanted & needs.keys() for module, wanted in needs.items() if module in needed}
        left = {module: wanted for module, wanted in left.items() if wanted}
        if left == needs:
            return sorted(needs)
        needs = left


def foreign_imports(known: Sources) -> list[str]:
    wrong = []
    for module, source in known.items():
        place = module.split(".")[1] if "." in module else ""
        for top in {name.partition(".")[0] for name in imports(module, source)}:
            fine = (
                top == PACKAGE or top in EVERYWHERE or top in sys.stdlib_module_names or place in CORNERS.get(top, ())
            )
            if not fine or top in UNPICKLING:
                wrong.append(f"{module} imports {top}")
    return wrong


def impure_imports(known: Sources) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, source in known.items()
        if module != PACKAGE and module.split(".")[1] in PURE
        for name in imports(module, source)
        if name.partition(".")[0] in IMPURE
    ]


def test_dependencies_point_one_way() -> None:
    assert upward_imports(sources()) == []


def test_no_import_cycles() -> None:
    assert cycles(sources()) == []


def test_heavy_packages_stay_in_their_corner_and_nothing_unpickles() -> None:
    assert foreign_imports(sources()) == []


def test_the_algorithm_opens_no_socket_file_or_clock() -> None:
    assert impure_imports(sources()) == []


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    known = sources()
    named = {f"{PACKAGE}.{name}" for layer in LAYERS for name in layer}
    assert named - known.keys() <= {f"{PACKAGE}._core"}, "names in LAYERS without a module"
    assert all(layer_of(module) >= 0 for module in known)


def test_the_checks_can_fail() -> None:
    bad = {
        "fedagg_edge.errors": "def f():\n    from fedagg_edge.node import Node",
        "fedagg_edge.node": "import torch, pickle\nimport time",
        "fedagg_edge.store": "from fedagg_edge import samples",
        "fedagg_edge.samples": "import fedagg_edge.store, fedagg_edge.learners.zoo",
        "fedagg_edge.learners.zoo": "import torch",
        "fedagg_edge.distill": "import fedagg_edge.store",
    }
    assert upward_imports(bad) == ["fedagg_edge.errors imports fedagg_edge.node, which is above it"]
    assert cycles(bad) == ["fedagg_edge.samples", "fedagg_edge.store"]
    assert sorted(foreign_imports(bad)) == ["fedagg_edge.node imports pickle", "fedagg_edge.node imports torch"]
    assert impure_imports(bad) == ["fedagg_edge.node imports time"]


def test_what_runs_later_makes_no_cycle() -> None:
    fine = {
        "fedagg_edge.store": "from fedagg_edge import samples",
        "fedagg_edge.samples": "if TYPE_CHECKING:\n    import fedagg_edge.store",
        "fedagg_edge.config": "def f():\n    import fedagg_edge.tree",
        "fedagg_edge.tree": "import fedagg_edge.config",
    }
    assert cycles(fine) == []
