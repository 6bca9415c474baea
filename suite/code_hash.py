"""What an entry's code is known by: a hash that sees any change of code and none of words or layout."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HELPERS = ("tasks", "baselines", "suite.models", "suite.data.catalog", "suite.params", "suite.schedule")
"""Packages and modules that are part of the code of the entries that import them."""


def source_hash(path: Path) -> str:
    """SHA-256 of the code of an entry's file and of its helpers.

    Helpers are the modules of `HELPERS`, and those of its own package by relative import, that the
    file imports, directly or through each other: a change in the shared part of two optimizers changes both.
    """
    helpers: dict[Path, str] = {}
    waiting = list(_imported(path))
    while waiting:
        helper = waiting.pop()
        if helper not in helpers and helper != path.resolve():
            helpers[helper] = code_hash(helper)
            waiting.extend(_imported(helper))
    own = code_hash(path)
    if not helpers:
        return own
    text = "\n".join([own, *(f"{helper.stem} {digest}" for helper, digest in sorted(helpers.items()))])
    return hashlib.sha256(text.encode()).hexdigest()


def code_hash(path: Path) -> str:
    """SHA-256 of a Python file's code with comments, docstrings, `pass` and layout removed.

    The text hashed is the unparsed syntax tree, with f-strings taken apart, so that it does not
    depend on the Python version for the code that an entry consists of.
    """
    text = ast.unparse(ast.fix_missing_locations(_Bare().visit(_tree(path))))
    return hashlib.sha256(text.encode()).hexdigest()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imported(path: Path) -> Iterator[Path]:
    """Files of the helpers that a file imports, whether at its top or inside a function."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.resolve().parents[node.level - 1]
            yield from _files(base, node.module or "", [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom) and _is_helper(node.module or ""):
            yield from _files(ROOT, node.module or "", [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_helper(alias.name):
                    yield from _files(ROOT, alias.name, [])


def _is_helper(module: str) -> bool:
    return any(module == helper or module.startswith(f"{helper}.") for helper in HELPERS)


def _files(base: Path, module: str, names: list[str]) -> Iterator[Path]:
    """Files of a module and of those among `names` that are modules in it, as far as they exist."""
    folder = base.joinpath(*filter(None, module.split(".")))
    for candidate in (folder.with_suffix(".py"), *(folder / f"{name}.py" for name in names)):
        if candidate.is_file():
            yield candidate


class _Bare(ast.NodeTransformer):
    """Drops docstrings, other bare strings and `pass`; writes f-strings as calls of their parts."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return self._call("f_string", node.values)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        spec = [] if node.format_spec is None else [node.format_spec]
        return self._call("f_value", [node.value, ast.Constant(node.conversion), *spec])

    def _call(self, name: str, parts: list[ast.expr]) -> ast.AST:
        return self.generic_visit(ast.Call(func=ast.Name(id=name, ctx=ast.Load()), args=parts, keywords=[]))
