"""Tests of the import direction, read from the sources: from cli down to errors, never upwards."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("suite", "tasks", "baselines", "slurm")

LAYERS = [
    layer.split()
    for layer in (
        "errors",
        "files space seeds metric spec schedule process_group parameters flat_params task batch code_hash",
        "numerics",
        "records",
        "models",
        "data",
        "problem objective",
        "problems",
        "sharpness",
        "store",
        "entries",
        "engine_lock",
        "engine",
        "publishing",
        "workers",
        "terminal",
        "status",
        "track",
        "report",
        "conformance",
        "cli",
    )
]
"""Layers of suite/ from the bottom up, each with its modules or folders: each imports itself and lower ones.

The modules directly in suite/ are its public interface for entries, in layers between those of the folders.
"""

RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
BELOW_ENTRIES = RANK["store"]
"""Tasks and optimizers import only modules below this layer."""

LOADERS = {
    "suite/__init__.py",  # the public functions
    "suite/entries/registry.py",  # entries: the only loader of tasks/ and baselines/
    "suite/cli/__init__.py",  # commands
    "suite/sharpness/__init__.py",  # measures
    "suite/status/scheduler.py",  # dispatchers
    "suite/workers/serve.py",  # the training of a worker process, after its start
}
"""Modules that may load others by name."""

MAX_LINES = 500


@dataclass(frozen=True)
class Import:
    """An imported module and the file that imports it."""

    source: Path
    module: str

    @property
    def where(self) -> str:
        return f"{self.source.relative_to(ROOT)} imports {self.module}"


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for package in PACKAGES for path in sources(package)}


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node below this one, except those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from running(other)
            continue
        yield child
        yield from running(child)


def imports(path: Path, nodes: Callable[[ast.AST], Iterable[ast.AST]] = running) -> Iterator[Import]:
    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(path, inner if inner in MODULES else str(node.module))


def room(module: str) -> str:
    """Return the folder or file directly in suite/ that holds a module; empty for the package itself."""
    return ".".join(module.split(".")[1:2])


ALL = [found for package in PACKAGES for path in sources(package) for found in imports(path)]


def test_the_reader_of_imports_sees_them(tmp_path: Path) -> None:
    # The tests below would pass without any import: check known imports, one of them in a function.
    pairs = {(module_of(found.source), found.module) for found in ALL}
    assert ("baselines.sam", "suite.spec") in pairs
    assert ("suite.objective", "suite.numerics.dropout") in pairs
    assert ("suite.entries.selection", "suite.data.choose") in pairs
    assert ("suite.spec", "suite.seeds") not in pairs  # only for the type checker


def test_every_room_has_a_place() -> None:
    rooms = {room(module) for module in MODULES if module.startswith("suite.")}
    assert rooms <= RANK.keys(), f"give these a layer: {sorted(rooms - RANK.keys())}"


def test_suite_imports_downwards_only() -> None:
    upward = [
        found.where
        for found in ALL
        if found.source.is_relative_to(ROOT / "suite")
        and found.module.startswith("suite.")
        and RANK[room(found.module)] > RANK.get(room(module_of(found.source)), -1)
    ]
    assert not upward


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for found in ALL:
        here, there = room(module_of(found.source)), room(found.module)
        if found.module.startswith("suite.") and here and here != there:
            edges.setdefault(here, set()).add(there)
    assert not circle(edges)


def test_files_do_not_import_each_other_in_a_circle_not_even_for_their_types() -> None:
    edges: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sources(package):
            found = {one.module for one in imports(path, ast.walk)} & MODULES
            edges[module_of(path)] = found - {module_of(path)}
    assert "suite.task" in edges["suite.data.choose"]
    assert "suite.seeds" in edges["suite.spec"]  # only for the type checker
    assert not circle(edges)


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """Return the modules in import cycles, and those that import them."""
    placed: set[str] = set()
    while waiting := edges.keys() - placed:
        free = {name for name in waiting if not (edges[name] & edges.keys()) - placed}
        if not free:
            break
        placed |= free
    return sorted(waiting)


def test_suite_names_no_task_no_optimizer_and_no_dispatcher() -> None:
    named = [
        found.where
        for found in ALL
        if found.source.is_relative_to(ROOT / "suite") and found.module.split(".")[0] in PACKAGES[1:]
    ]
    assert not named


def test_only_the_registry_and_its_like_load_modules_by_name() -> None:
    by_name = set()
    for path in sources("suite"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.split(".")[-1] in ("import_module", "__import__", "exec_module"):
                by_name.add(path.relative_to(ROOT).as_posix())
    assert by_name == LOADERS


@pytest.mark.parametrize("package", ["tasks", "baselines"])
def test_entries_import_what_lies_below_the_store(package: str) -> None:
    foreign = [
        found.where
        for found in ALL
        if found.source.is_relative_to(ROOT / package)
        and found.module.split(".")[0] in PACKAGES
        and found.module.split(".")[0] != package
        and not (found.module.startswith("suite.") and RANK[room(found.module)] < BELOW_ENTRIES)
    ]
    assert not foreign


def test_entries_are_imported_by_nobody() -> None:
    outside = [
        found.where
        for found in ALL
        if found.module.split(".")[0] in ("tasks", "baselines")
        and not found.source.is_relative_to(ROOT / found.module.split(".")[0])
    ]
    assert not outside


def test_dispatch_imports_the_suite_and_never_the_other_way() -> None:
    assert not [found.where for found in ALL if found.module.split(".")[0] == "slurm"
                and not found.source.is_relative_to(ROOT / "slurm")]  # fmt: skip


def test_only_a_command_line_imports_a_command_line() -> None:
    into_cli = [found for found in ALL if "cli" in found.module.split(".")]
    assert any(found.source.is_relative_to(ROOT / "slurm" / "cli") for found in into_cli)
    assert not [found.where for found in into_cli if "cli" not in found.source.relative_to(ROOT).parts]


@pytest.mark.parametrize("heavy", ["torchvision", "timm"])
def test_model_zoos_are_imported_inside_functions_only(heavy: str) -> None:
    at_the_top = []
    for package in PACKAGES:
        for path in sources(package):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
                at_the_top += [str(path) for name in names if name.split(".")[0] == heavy]
    assert not at_the_top


def test_modules_are_small() -> None:
    every = [path for package in (*PACKAGES, "tests") for path in sources(package)]
    long = {
        path.name: n
        for path in every
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long
