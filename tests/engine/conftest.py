"""A copy of the package that tests of the lock may edit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.code_hash import ROOT


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for package in ("suite", "tasks", "baselines"):
        ignored = shutil.ignore_patterns("__pycache__", "templates")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    return root


@pytest.fixture
def copied(whole: Path) -> Iterator[Path]:
    """A copy of the package; what a test does to its files is undone."""
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    yield whole
    for path in [path for path in whole.rglob("*") if path.is_file() and path not in before]:
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
