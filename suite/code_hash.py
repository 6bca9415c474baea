"""What an entry's code is known by: a hash that sees any change of code and none of words, layout or place.

Import statements are no code, so a module may be moved or renamed, and an import may move into a function.
What they bring counts in two ways:

- a name that the code uses stands for what it was imported as: `from torch.optim import SGD as Base` is not
  `from torch.optim import Adam as Base`. For a module of the suite the name alone counts, not the place;
- the modules that belong to an entry are part of its code, see `source_hash`.

The lock of the engine asks for more: there a name stands for its place, too, see `code_hash`.

Files are read and never executed, so a module that this process loaded before an edit does not hide the edit.
What code loads by a computed name is not seen, nor what it reads from data files.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TypeGuard

from suite.errors import SteppeError

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the packages: a clone, or site-packages."""

HELPERS = ("tasks", "baselines", "suite.models", "suite.data.catalog")
"""Packages and modules of the suite that are part of the code of the entries that import them.

The rest of the suite is not: `suite.engine_lock` holds what can change a number.
"""

SUITE = {"suite", "slurm", "tasks", "baselines"}
"""Top-level packages of the suite."""

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed distributions."""


def source_hash(path: Path, root: Path = ROOT) -> str:
    """SHA-256 of the code of an entry's file and of the modules of its own that it imports.

    Its own are, followed from import to import, at the top of a file or inside a function: `HELPERS`; source
    files that belong neither to the rest of the suite, nor to Python, nor to an installed distribution; and
    for an entry that is itself in an installed distribution, those of its own top-level package. How they are
    called and where they lie does not matter: the hashes of their code are sorted.
    """
    return _Closure(path, root).hash()


def code_hash(path: Path, root: Path = ROOT, *, places: bool = False) -> str:
    """SHA-256 of the code of one Python file without that of the modules that it imports.

    With `places` a name stands for the module that it was imported from, too, as two functions of the suite
    may have one name; and an import that nothing uses counts, as it may be there for what it does.
    """
    source = _Source(path)
    if places:
        ran = {one.bound for one in source.imports if one.runs}
        return source.hash({one: one.place for one in source.imports}, ran)
    return source.hash({one: one.origin(root) for one in source.imports}, set())


def is_helper(module: str) -> bool:
    """Whether a module of the suite is part of the code of the entries that import it."""
    return any(f"{module}.".startswith(f"{helper}.") for helper in HELPERS)


def syntax_tree(path: Path) -> ast.Module:
    """Read the syntax tree of a Python file; SteppeError where it has none."""
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        reason = " ".join(str(error).split())
        raise SteppeError(f"{path} is not Python ({reason}): correct it, or do not import it") from None


@dataclass(frozen=True)
class Import:
    """A name that an import statement binds."""

    level: int
    """Dots of a relative import."""
    module: str
    name: str
    """What is imported from the module; `*` for everything, empty where it is the module itself."""
    bound: str
    """The name in the importing file."""
    runs: bool
    """False under `if TYPE_CHECKING`."""

    @property
    def path(self) -> list[str]:
        """Names of the packages and of the module, from the top-level one."""
        return self.module.split(".") if self.module else []

    @property
    def place(self) -> str:
        """The module as it is written, and what is imported from it."""
        return f"{'.' * self.level}{self.module} {self.name}".strip()

    def origin(self, root: Path) -> str:
        """What the name stands for, where the module is no part of the code."""
        if self.level or self.path[0] in SUITE:
            is_module = not self.level and _file(root, [*self.path, self.name]) is not None
            return "" if is_module else self.name
        if self.name:
            return f"{self.module}.{self.name}"
        return self.path[0] if self.bound == self.path[0] else self.module


def imports(tree: ast.AST, runs: bool = True) -> Iterator[Import]:
    """Every name that the import statements below a node bind, those inside functions included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(0, alias.name, "", alias.asname or alias.name.partition(".")[0], runs)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                yield Import(node.level, node.module or "", alias.name, alias.asname or alias.name, runs)
        elif _is_for_types(node):
            yield from imports(ast.Module(node.body, []), runs=False)
            yield from imports(ast.Module(node.orelse, []), runs)
        else:
            yield from imports(node, runs)


class _Source:
    """The code of one file, and what it imports."""

    def __init__(self, path: Path) -> None:
        tree = syntax_tree(path)
        self.path = path
        self.imports = list(imports(tree))
        bare = _Bare().visit(tree)
        self.code = _plain(bare.body)
        self.code_hash = _sha256(self.code)
        self._used = {node.id for node in ast.walk(bare) if isinstance(node, ast.Name)}

    def hash(self, origins: dict[Import, str], taken: set[str]) -> str:
        """Hash the code, and the origins of the imported names that it uses or that others take from here."""
        counted = self._used | taken
        names = {
            (one.bound, of) for one, of in origins.items() if {one.bound, "*"} & counted or one.name == "*"
        }
        return _sha256([self.code, sorted(names)])


class _Closure:
    """An entry's file and the modules of its own.

    A top-level name is looked up as Python does, on `sys.path`, and at last in the folder of the entry's
    file, which an entry may put on the path only when it needs it.
    """

    def __init__(self, entry: Path, root: Path) -> None:
        entry = entry.absolute()
        self._root = root
        self._entry = entry
        self._distribution = _distribution(entry)
        self._search = [*sys.path, str(entry.parent)]
        self._places: dict[str, list[Path]] = {}
        self._sources: dict[Path, _Source] = {}
        self._taken: defaultdict[Path, set[str]] = defaultdict(set)
        importlib.invalidate_caches()  # the import system remembers what was in a folder
        waiting = [entry]
        while waiting:
            file = waiting.pop()
            if file.resolve() in self._sources:
                continue
            source = self._sources[file.resolve()] = _Source(file)
            for one in source.imports:
                files, is_module = self._find(one, file)
                for found in files:
                    self._taken[found.resolve()].add("*" if is_module else one.name)
                waiting += files

    def hash(self) -> str:
        """SHA-256 of all of it; that of the entry's file where it has no other module of its own."""
        hashes = {file: self._hash(file) for file in self._sources}
        own = hashes.pop(self._entry.resolve())
        others = sorted(set(hashes.values()) - {_EMPTY})
        return _sha256([own, others]) if others else own

    def _hash(self, file: Path) -> str:
        source = self._sources[file]
        return source.hash({one: self._origin(one, source.path) for one in source.imports}, self._taken[file])

    def _origin(self, one: Import, importer: Path) -> str:
        """What an imported name stands for: of a module of its own, the code that is there."""
        files, is_module = self._find(one, importer)
        if not files:
            return one.origin(self._root)
        codes = [source.code_hash for file in files if (source := self._sources[file.resolve()]).code]
        return " ".join(codes if is_module else [*codes, one.name])

    def _find(self, one: Import, importer: Path) -> tuple[list[Path], bool]:
        """Own files that an import runs, those of packages first; and whether what it binds is a module."""
        if not one.runs:
            return [], False
        if one.level:
            package = importer.parents[min(one.level, len(importer.parents)) - 1]
            places, path = [package.parent], [package.name, *one.path]
        else:
            places, path = self._top_level(one.path[0]), one.path
        for place in places:
            chain = [_file(place, path[: depth + 1]) for depth in range(len(path))]
            inner = _file(place, [*path, one.name]) if one.name else None
            files = [file for file in (*chain, inner) if file is not None and self._is_own(file)]
            if files:
                return files, not one.name or inner is not None
        return [], False

    def _top_level(self, name: str) -> list[Path]:
        """Folders that hold the top-level module or package of that name."""
        if name in SUITE:
            return [self._root]
        if name in sys.stdlib_module_names:
            return []
        if name not in self._places:
            spec = PathFinder.find_spec(name, self._search)
            inside = spec.submodule_search_locations if spec else None
            found = [*inside] if inside is not None else [spec.origin] if spec and spec.origin else []
            self._places[name] = [Path(place).parent for place in found]
        return self._places[name]

    def _is_own(self, file: Path) -> bool:
        if file.is_relative_to(self._root):
            path = file.relative_to(self._root).with_suffix("").parts
            if path[0] in SUITE:
                return is_helper(".".join(path[:-1] if path[-1] == "__init__" else path))
        return _distribution(file) in (None, self._distribution)


def _file(place: Path, path: list[str]) -> Path | None:
    """Source file of the package or module of that dotted path, None where there is none."""
    folder = place.joinpath(*path)
    for file in (folder / "__init__.py", folder.parent / f"{folder.name}.py"):
        if file.is_file():
            return file
    return None


def _distribution(file: Path) -> Path | None:
    """Top-level package or module of the installed distribution that a file belongs to."""
    for folder in file.parents:
        if folder.parent.name in INSTALLED:
            return folder
    return file if file.parent.name in INSTALLED else None


class _Bare(ast.NodeTransformer):
    """Drops imports, docstrings and other bare strings, `pass`, and what stands under `if TYPE_CHECKING`."""

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _is_for_types(node) else node


def _is_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


_WITHOUT_MEANING = {"ctx", "kind", "type_comment"}
"""Fields of a node that say nothing which its place, its value and its code do not say."""


def _plain(node: object) -> object:
    """Write a syntax tree as JSON data that is the same in every supported Python.

    Fields that are empty are left out, of which newer versions have more, as are the empty pieces of
    f-strings, which Python 3.12 has.
    """
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", [_plain(piece) for piece in node.values if not _is_empty_text(piece)]]
    if isinstance(node, ast.Constant):
        return ["Constant", repr(node.value)]
    if not isinstance(node, ast.AST):
        return node
    fields = {name: value for name, value in ast.iter_fields(node) if name not in _WITHOUT_MEANING}
    filled = {name: _plain(value) for name, value in fields.items() if value is not None and value != []}
    return [type(node).__name__, filled]


def _is_empty_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


_EMPTY = _sha256([[], []])
"""The hash of a file without code."""
