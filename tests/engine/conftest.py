"""A copy of the package that tests of the lock may edit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from suite.code_hash import ROOT
from suite.engine_lock import check as engine_lock
from suite.engine_lock.check import current, write


@pytest.fixture(scope="module", autouse=True)
def each_text_is_read_once() -> Iterator[None]:
    """Remember the syntax tree and the hash of each content of a file: tests edit few of the files."""
    with pytest.MonkeyPatch.context() as patch:
        for function in (engine_lock.syntax_tree, engine_lock.code_hash):
            patch.setattr(engine_lock, function.__name__, by_content(function))
        yield


def by_content(function: Callable[..., Any]) -> Callable[..., Any]:
    found: dict[bytes, Any] = {}

    def remembered(path: Path, **options: bool) -> Any:
        content = path.read_bytes()
        if content not in found:
            found[content] = function(path, **options)
        return found[content]

    return remembered


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package whose lock agrees with it, even where that of this tree does not just now."""
    root = tmp_path_factory.mktemp("whole")
    for package in ("suite", "tasks", "baselines"):
        ignored = shutil.ignore_patterns("__pycache__", "templates")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    write(current(root), root)
    return root


@pytest.fixture(scope="module")
def unedited(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another copy, which no test edits."""
    return shutil.copytree(whole, tmp_path_factory.mktemp("unedited"), dirs_exist_ok=True)


@pytest.fixture
def copied(whole: Path) -> Iterator[Path]:
    """A copy of the package; what a test does to its files is undone."""
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    yield whole
    for path in [path for path in whole.rglob("*") if path.is_file() and path not in before]:
        path.unlink()
    for path, content in before.items():
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
