"""Hash of an entry's code: it changes with the code, but not with comments, docstrings, layout or location.

Import statements are not hashed, so a module may be moved or renamed, and an import may move into a function.
The imported names and modules count in two ways:

- a name that the code uses is hashed with its origin: `from torch.optim import SGD as Base` differs from
  `from torch.optim import Adam as Base`. In a module of the suite the name alone counts, not the module;
- the modules that belong to an entry are part of its code, see `source_hash`.

The engine lock is stricter: it also hashes the module that a name comes from, see `code_hash`.

Files are parsed and never executed, so an edit counts even if this process imported the module before.
Modules imported under a computed name and data files are not hashed.
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

The rest of the suite is not: `suite.engine_lock` covers the modules that can change a number.
"""

SUITE = {"suite", "slurm", "tasks", "baselines"}
"""Top-level packages of the suite."""

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed distributions."""


def source_hash(path: Path, root: Path = ROOT) -> str:
    """Return the SHA-256 of the code of an entry's file and of the entry's own modules that it imports.

    Imports are followed transitively, at the top of a file or inside a function. Own modules are: `HELPERS`;
    source files outside the suite, the standard library and installed distributions; and, for an entry inside
    an installed distribution, the modules of its own top-level package. Names and locations of modules do not
    count: the hashes of their code are sorted.
    """
    return _Closure(path, root).hash()


def code_hash(path: Path, root: Path = ROOT, *, places: bool = False) -> str:
    """Return the SHA-256 of the code of one Python file, without the modules that it imports.

    With `places` a name is hashed with the module that it is imported from, because two functions of the
    suite may share a name; unused imports count as well, because an import may have side effects.
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
    """Parse a Python file; SteppeError if its syntax is invalid."""
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        reason = " ".join(str(error).split())
        raise SteppeError(f"{path} is not Python ({reason}): correct it, or do not import it") from None


@dataclass(frozen=True)
class Import:
    """A name that an import statement binds."""

    level: int
    """Number of dots of a relative import."""
    module: str
    name: str
    """The name imported from the module; `*` for everything, empty for the module itself."""
    bound: str
    """The name in the importing file."""
    runs: bool
    """False under `if TYPE_CHECKING`."""

    @property
    def path(self) -> list[str]:
        """Components of the module's dotted name, the top-level package first."""
        return self.module.split(".") if self.module else []

    @property
    def place(self) -> str:
        """The module as written in the statement, and the name imported from it."""
        return f"{'.' * self.level}{self.module} {self.name}".strip()

    def origin(self, root: Path) -> str:
        """Return the origin of the name for the hash, if its module is not part of the code."""
        if self.level or self.path[0] in SUITE:
            is_module = not self.level and _file(root, [*self.path, self.name]) is not None
            return "" if is_module else self.name
        if self.name:
            return f"{self.module}.{self.name}"
        return self.path[0] if self.bound == self.path[0] else self.module


def imports(tree: ast.AST, runs: bool = True) -> Iterator[Import]:
    """Yield every name that the import statements below a node bind, including those inside functions."""
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
    """The code of one file, and its imports."""

    def __init__(self, path: Path) -> None:
        tree = syntax_tree(path)
        self.path = path
        self.imports = list(imports(tree))
        bare = _Bare().visit(tree)
        self.code = _plain(bare.body)
        self.code_hash = _sha256(self.code)
        self._used = {node.id for node in ast.walk(bare) if isinstance(node, ast.Name)}

    def hash(self, origins: dict[Import, str], taken: set[str]) -> str:
        """Hash the code with the origins of the imported names that it uses or that other files import."""
        counted = self._used | taken
        names = {
            (one.bound, of) for one, of in origins.items() if {one.bound, "*"} & counted or one.name == "*"
        }
        return _sha256([self.code, sorted(names)])


class _Closure:
    """An entry's file and the entry's own modules.

    A top-level name is searched on `sys.path`, as Python does, and then in the folder of the entry's file,
    which an entry may add to the path at run time.
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
        importlib.invalidate_caches()  # the import system caches the contents of folders
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
        """Return the SHA-256 of all files; that of the entry's file if there is no other."""
        # A set of hashes, not of files: neither a module's name nor a second copy of it changes the result.
        hashes = {file: self._hash(file) for file in self._sources}
        own = hashes.pop(self._entry.resolve())
        others = sorted(set(hashes.values()) - {_EMPTY})
        return _sha256([own, others]) if others else own

    def _hash(self, file: Path) -> str:
        source = self._sources[file]
        return source.hash({one: self._origin(one, source.path) for one in source.imports}, self._taken[file])

    def _origin(self, one: Import, importer: Path) -> str:
        """Return the origin of an imported name for the hash: in an own module, the hash of its code."""
        files, is_module = self._find(one, importer)
        if not files:
            return one.origin(self._root)
        codes = [source.code_hash for file in files if (source := self._sources[file.resolve()]).code]
        return " ".join(codes if is_module else [*codes, one.name])

    def _find(self, one: Import, importer: Path) -> tuple[list[Path], bool]:
        """Return the own files that an import runs, packages first, and whether it binds a module."""
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
        """Return the folders that hold the top-level module or package of that name."""
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
    """Return the source file of the package or module of that dotted path, or None."""
    folder = place.joinpath(*path)
    for file in (folder / "__init__.py", folder.parent / f"{folder.name}.py"):
        if file.is_file():
            return file
    return None


def _distribution(file: Path) -> Path | None:
    """Return the top-level package or module of the installed distribution of a file, or None."""
    for folder in file.parents:
        if folder.parent.name in INSTALLED:
            return folder
    return file if file.parent.name in INSTALLED else None


class _Bare(ast.NodeTransformer):
    """Removes imports, docstrings and other bare strings, `pass`, and bodies of `if TYPE_CHECKING`."""

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
"""Fields of a node that follow from its position and its other fields."""


def _plain(node: object) -> object:
    """Convert a syntax tree to JSON data that is equal in every supported Python.

    Empty fields are omitted because newer versions have more of them, and empty pieces of f-strings because
    Python 3.12 adds them.
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
