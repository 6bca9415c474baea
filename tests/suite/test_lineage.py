"""Whether a record can come from the commit that it names, in a clone of a few small files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suite import lineage
from suite.lineage import check_origin, checkable, commit_of, tree_digest
from suite.schema import Origin, Record
from tests.suite.report.records import record

FILES = {
    "suite/a.py": b"one = 1\n",
    "tasks/t.py": b"two = 2\n",
    "baselines/b.py": b"three = 3\n",
    "suite/notes.txt": b"no code\n",
}


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(root: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "files")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


def of(origin: Origin, **changes: Any) -> Record:
    made = record(**changes)
    return replace(made, provenance=replace(made.provenance, origin=origin))


def test_the_code_of_a_commit_is_that_of_its_files(clone: Path) -> None:
    name = commit(clone, FILES)
    found = commit_of(name, clone)
    assert found is not None
    assert (found.source_tree, found.engine, found.measures) == (tree_digest(FILES), None, {})
    assert list(check_origin(of(Origin(found.source_tree, name, "cpu A")), clone)) == []


def test_other_code_than_that_of_the_commit_is_told(clone: Path) -> None:
    first = commit(clone, FILES)
    second = commit(clone, {"suite/a.py": b"one = 4\n"})
    assert commit_of(first, clone) != commit_of(second, clone)
    found = commit_of(first, clone)
    assert found is not None
    told = f"provenance.origin.source_tree is not that of commit {second[:12]}"
    assert list(check_origin(of(Origin(found.source_tree, second, "cpu A")), clone)) == [told]


@pytest.mark.parametrize("name", [None, "f" * 40, "main", "HEAD", "--output=x"])
def test_what_the_clone_does_not_have_is_a_claim(clone: Path, name: str | None) -> None:
    commit(clone, FILES)
    git(clone, "branch", "-M", "main")
    origin = Origin("0" * 64, name, "cpu A")
    assert not checkable(origin, clone)
    assert list(check_origin(of(origin), clone)) == []
    assert {path.name for path in clone.iterdir()} == {".git", "suite", "tasks", "baselines"}


def test_code_that_differed_from_its_commit_is_a_claim(clone: Path) -> None:
    name = commit(clone, FILES)
    assert checkable(Origin("0" * 64, name, "cpu A"), clone)
    assert not checkable(Origin("0" * 64, f"{name}-dirty", "cpu A"), clone)


def test_a_folder_that_is_no_clone_has_no_commits(tmp_path: Path) -> None:
    assert commit_of("f" * 40, tmp_path) is None


def test_the_origin_of_an_estimate_is_checked_like_that_of_the_record(clone: Path) -> None:
    name = commit(clone, FILES)
    made = record()
    assert made.sharpness is not None
    measures = {
        key: replace(one, origin=Origin("0" * 64, name, "cpu B"))
        for key, one in made.sharpness.measures.items()
    }
    made = replace(made, sharpness=replace(made.sharpness, measures=measures))
    assert list(check_origin(made, clone)) == [
        f"sharpness.measures.hessian_trace.origin.source_tree is not that of commit {name[:12]}"
    ]


@dataclass(frozen=True)
class Lock:
    engine: int
    measures: dict[str, int]


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lock], None]:
    """Let every lock say this."""
    return lambda lock: monkeypatch.setattr(lineage.engine_lock, "parse", lambda _: lock)


def test_engine_and_versions_are_those_of_the_commit(clone: Path, locked: Callable[[Lock], None]) -> None:
    locked(Lock(7, {"hessian_trace": 2}))
    name = commit(clone, {**FILES, lineage.engine_lock.NAME: b"lock\n"})
    origin = Origin(tree_digest(FILES), name, "cpu A")
    assert list(check_origin(of(origin, engine=7, measure_version=2), clone)) == []
    assert list(check_origin(of(origin, engine=8, measure_version=1), clone)) == [
        f"engine is 8, but commit {name[:12]} is engine 7",
        f"sharpness.measures.hessian_trace.version is 1, but commit {name[:12]} has version 2 of that "
        f"estimator",
    ]


def test_the_digest_is_of_names_and_lines() -> None:
    assert tree_digest(FILES) == tree_digest(dict(reversed(FILES.items())))
    assert tree_digest({**FILES, "suite/notes.txt": b"more\n", "docs/x.py": b"", "suite/.x.py": b""}) == (
        tree_digest(FILES)
    )
    assert tree_digest({**FILES, "suite/a.py": b"one = 1\r\n"}) == tree_digest(FILES)
    assert tree_digest({**FILES, "suite/c.py": b""}) != tree_digest(FILES)
