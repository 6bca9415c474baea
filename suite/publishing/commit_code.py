"""Reads the protocol and the entries of a commit from its files, without executing any file.

Loads no torch.
"""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from suite import code_hash
from suite.code_hash import source_hash, syntax_tree
from suite.errors import SteppeError

ENTRIES = {"optimizer": ("baselines", "OptimizerSpec"), "task": ("tasks", "TaskSpec")}
"""Folder of the built-in entries and name of their class, by kind."""


@dataclass(frozen=True)
class Entries:
    """The built-in entries of one kind, as read from their files."""

    sources: frozenset[str]
    """Code hashes of all files that construct an entry."""
    source: Mapping[str, str]
    """Code hash by name, for names that are a literal or a constant in the file."""
    version: Mapping[str, str]
    """Version by name, for names and versions that are literals or constants."""


@dataclass(frozen=True)
class Code:
    """The protocol and the entries of a commit."""

    protocol: str | None
    """None if it is not a string literal in suite/__init__.py."""
    entries: Mapping[str, Entries]
    """By kind; empty if the commit hashes code by other rules, because hashes then cannot be compared."""


def read(files: Mapping[str, bytes]) -> Code:
    """Read the code of a commit from the contents of its files by path."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name, content in files.items():
            if name.endswith(".py"):
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        try:
            return Code(_protocol(root), _entries(root))
        except SteppeError:  # a file is not Python
            return Code(None, {})


def _protocol(root: Path) -> str | None:
    path = root / "suite" / "__init__.py"
    return _constants(syntax_tree(path)).get("PROTOCOL") if path.exists() else None


def _entries(root: Path) -> dict[str, Entries]:
    hashing = root / "suite" / "code_hash.py"
    if not hashing.exists() or code_hash.code_hash(hashing, root) != _own_hashing():
        return {}
    return {kind: _of_kind(root, *where) for kind, where in ENTRIES.items()}


@cache
def _own_hashing() -> str:
    return code_hash.code_hash(Path(code_hash.__file__))


def _of_kind(root: Path, folder: str, maker: str) -> Entries:
    sources: set[str] = set()
    source: dict[str, str] = {}
    version: dict[str, str] = {}
    for path in sorted((root / folder).glob("[!.]*.py")):
        for name, its_version in _made(syntax_tree(path), maker):
            found = source_hash(path, root)
            sources.add(found)
            if name is not None:
                source[name] = found
            if name is not None and its_version is not None:
                version[name] = its_version
    return Entries(frozenset(sources), source, version)


def _made(tree: ast.Module, maker: str) -> Iterator[tuple[str | None, str | None]]:
    """Yield name and version of each entry in a file; None if it is neither a literal nor a constant."""
    known = _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == maker:
            given = dict(zip(("name", "version"), node.args, strict=False))
            given |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
            yield _text(given.get("name"), known), _text(given.get("version"), known)


def _constants(tree: ast.Module) -> dict[str, str]:
    """Return the strings that a module assigns to names at top level."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _text(node: ast.expr | None, known: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
