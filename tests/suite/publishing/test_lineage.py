"""Whether a record can come from the commit that it names, in a clone of a few small files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suite.code_hash import ROOT, source_hash
from suite.publishing import lineage
from suite.publishing.lineage import check_origin, checkable, commit_of, compared, tree_digest
from suite.records.schema import Origin, Record, Sources
from tests.suite.report.fake_records import record

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
    return lambda lock: monkeypatch.setattr(lineage.engine_lock_file, "parse", lambda _: lock)


def test_engine_and_versions_are_those_of_the_commit(clone: Path, locked: Callable[[Lock], None]) -> None:
    locked(Lock(7, {"hessian_trace": 2}))
    name = commit(clone, {**FILES, lineage.engine_lock_file.NAME: b"lock\n"})
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


ENTRY = """
from baselines.helper import RATE
from suite.spec import OptimizerSpec

NAME = "sgd"
OPTIMIZERS = [OptimizerSpec(NAME, "2", "s", "t", {"lr": RATE}, cost=float, build=print)]
"""
FAMILY = """
from suite.task import TaskSpec

BASE = "im"
TASKS = [TaskSpec(name=f"{BASE}ages", version="1", tier="smoke", summary="s", make=print)]
"""
CODE = {
    "suite/__init__.py": b'PROTOCOL = "fair-0.2"\n',
    "suite/code_hash.py": (ROOT / "suite" / "code_hash.py").read_bytes(),
    "baselines/__init__.py": b"",
    "baselines/helper.py": b"RATE = 0.1\n",
    "baselines/plain.py": ENTRY.encode(),
    "tasks/images.py": FAMILY.encode(),
}


def by_code(clone: Path, name: str) -> Record:
    """A record that the code of the newest commit can have made, as far as it can be compared."""
    sources = Sources(
        *(source_hash(clone / path, clone) for path in ("tasks/images.py", "baselines/plain.py"))
    )
    tree = tree_digest({path: (clone / path).read_bytes() for path in CODE})
    made = replace(of(Origin(tree, name, "cpu A")), protocol="fair-0.2", sources=sources)
    return with_spec(made, "optimizer", version="2")


def with_spec(one: Record, kind: str, **changes: Any) -> Record:
    return replace(one, spec=replace(one.spec, **{kind: replace(getattr(one.spec, kind), **changes)}))


def test_the_code_of_entries_is_that_of_the_commit(clone: Path) -> None:
    name = commit(clone, CODE)
    made, short = by_code(clone, name), f"commit {name[:12]}"
    assert list(check_origin(made, clone)) == []
    for kind, entry in (("task", made.spec.task.name), ("optimizer", "sgd")):
        other = replace(made, sources=replace(made.sources, **{kind: "0" * 64}))
        assert list(check_origin(other, clone)) == [f"sources.{kind} is not the code of {entry} in {short}"]
        assert list(check_origin(with_spec(other, kind, plugin_source="0" * 64), clone)) == []
    told = f"spec.optimizer.version is '99', but sgd has '2' in {short}"
    assert list(check_origin(with_spec(made, "optimizer", version="99"), clone)) == [told]
    told = f"protocol is 'fair-9.9', but that of {short} is 'fair-0.2'"
    assert list(check_origin(replace(made, protocol="fair-9.9"), clone)) == [told]


def test_helpers_are_part_of_the_code_of_entries(clone: Path) -> None:
    before = by_code(clone, commit(clone, CODE))
    now = by_code(clone, commit(clone, {"baselines/helper.py": b"RATE = 0.2\n"}))
    assert list(check_origin(now, clone)) == []
    (told,) = check_origin(replace(now, sources=before.sources), clone)
    assert told.startswith("sources.optimizer is not the code of sgd")


@pytest.mark.parametrize("content", [b"def source_hash(path):\n    return 0\n", b"def f(:"])
def test_code_that_hashes_in_another_way_is_not_compared(clone: Path, content: bytes) -> None:
    name = commit(clone, {**CODE, "suite/code_hash.py": content})
    other = replace(by_code(clone, name), sources=Sources("0" * 64, "0" * 64))
    assert list(check_origin(other, clone)) == []
    assert not compared(other, clone)


def test_what_was_compared_in_all(clone: Path, locked: Callable[[Lock], None]) -> None:
    locked(Lock(2, {}))
    made = by_code(clone, commit(clone, {**CODE, lineage.engine_lock_file.NAME: b"lock\n"}))
    assert compared(made, clone)
    assert not compared(with_spec(made, "task", plugin_source="0" * 64), clone)
    assert not compared(by_code(clone, f"{'0' * 40}"), clone)
