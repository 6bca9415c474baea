"""Whether the code that a record names can have made it: held against the commit, where this clone has it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from suite import engine_lock
from suite.code_hash import ROOT
from suite.schema import Origin, Record
from suite.source_tree import DIRTY, SOURCE, tree_digest


@dataclass(frozen=True)
class Commit:
    """What the code of one commit is and can make."""

    source_tree: str
    engine: int | None
    measures: dict[str, int]
    """Version of each estimator by measure; empty where the commit has no lock."""


def check_origin(record: Record) -> Iterator[str]:
    """Yield what the commits that a record names cannot have made.

    A commit that this clone does not have, and code that differed from its commit, cannot be checked: what
    the record says of them is a claim.
    """
    mine = record.provenance.origin
    yield from _false_tree("provenance.origin", mine)
    commit = _clean(mine)
    if commit is not None and commit.engine not in (None, record.engine):
        yield f"engine is {record.engine}, but commit {_short(mine)} is engine {commit.engine}"
    for name, estimate in record.sharpness.measures.items() if record.sharpness else ():
        origin = estimate.origin or mine
        if estimate.origin is not None:
            yield from _false_tree(f"sharpness.measures.{name}.origin", origin)
        commit = _clean(origin)
        if commit is not None and commit.measures.get(name, estimate.version) != estimate.version:
            yield (
                f"sharpness.measures.{name}.version is {estimate.version}, but commit {_short(origin)} has "
                f"version {commit.measures[name]} of that estimator"
            )


def _false_tree(where: str, origin: Origin) -> Iterator[str]:
    commit = _clean(origin)
    if commit is not None and commit.source_tree != origin.source_tree:
        yield f"{where}.source_tree is not that of commit {_short(origin)}"


def checkable(origin: Origin) -> bool:
    """Whether this clone has the very code that is named."""
    return _clean(origin) is not None


def _clean(origin: Origin) -> Commit | None:
    name = origin.git_commit
    return None if name is None or name.endswith(DIRTY) else commit_of(name)


def _short(origin: Origin) -> str:
    return str(origin.git_commit)[:12]


@cache
def commit_of(name: str) -> Commit | None:
    """Read a commit of this clone; None where it does not have it."""
    if not name.isalnum():  # it goes to git as an argument
        return None
    answer = _git("archive", "--format=tar", name, "--", *SOURCE)
    if answer is None:
        return None
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(answer)) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                files[member.name] = file.read()
    lock = files.get(engine_lock.NAME)
    if lock is None:
        return Commit(tree_digest(files), None, {})
    known = engine_lock.parse(lock)
    return Commit(tree_digest(files), known.engine, known.measures)


def _git(*arguments: str) -> bytes | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
