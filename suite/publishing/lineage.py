"""Checks a record against the code of the commits that it names, if this clone has them."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from suite.code_hash import ROOT
from suite.engine_lock import file as engine_lock_file
from suite.publishing import commit_code
from suite.publishing.commit_code import Code
from suite.records.schema import Origin, Record
from suite.records.source_tree import SOURCE, tree_digest
from suite.spec import EntryRef


@dataclass(frozen=True)
class Commit:
    """The code of one commit: its digest, entries and versions."""

    source_tree: str
    engine: int | None
    measures: dict[str, int]
    """Version of the estimator by measure; empty if the commit has no engine lock."""
    code: Code


def check_origin(record: Record, root: Path = ROOT) -> Iterator[str]:
    """Yield contradictions between a record and those of its commits that the clone at `root` has.

    A commit that the clone lacks, and code that differed from its commit, cannot be checked: the record's
    statements about them are claims.
    """
    mine = record.provenance.origin
    yield from _false_tree("provenance.origin", mine, root)
    commit = _clean(mine, root)
    if commit is not None and commit.engine not in (None, record.engine):
        yield f"engine is {record.engine}, but commit {_short(mine)} is engine {commit.engine}"
    if commit is not None:
        yield from _false_code(record, commit.code)
    for name, estimate in record.sharpness.measures.items() if record.sharpness else ():
        origin = estimate.origin or mine
        if estimate.origin is not None:
            yield from _false_tree(f"sharpness.measures.{name}.origin", origin, root)
        commit = _clean(origin, root)
        if commit is not None and commit.measures.get(name, estimate.version) != estimate.version:
            yield (
                f"sharpness.measures.{name}.version is {estimate.version}, but commit {_short(origin)} has "
                f"version {commit.measures[name]} of that estimator"
            )


def _false_code(record: Record, code: Code) -> Iterator[str]:
    commit = f"commit {_short(record.provenance.origin)}"
    if code.protocol not in (None, record.protocol):
        yield f"protocol is {record.protocol!r}, but that of {commit} is {code.protocol!r}"
    for kind, entries in code.entries.items():
        ref: EntryRef = getattr(record.spec, kind)
        source = getattr(record.sources, kind)
        if ref.plugin_source is not None:  # the code of a plugin is not in the commit
            continue
        version = entries.version.get(ref.name, ref.version)
        if version != ref.version:
            yield f"spec.{kind}.version is {ref.version!r}, but {ref.name} has {version!r} in {commit}"
        if source != entries.source.get(ref.name, source) or source not in entries.sources:
            yield f"sources.{kind} is not the code of {ref.name} in {commit}"


def _false_tree(where: str, origin: Origin, root: Path) -> Iterator[str]:
    commit = _clean(origin, root)
    if commit is not None and commit.source_tree != origin.source_tree:
        yield f"{where}.source_tree is not that of commit {_short(origin)}"


def checkable(origin: Origin, root: Path = ROOT) -> bool:
    """Return whether the clone at `root` has the exact code of an origin."""
    return _clean(origin, root) is not None


def compared(record: Record, root: Path = ROOT) -> bool:
    """Return whether all code that a record names can be compared with its commit; False for plugins."""
    commit = _clean(record.provenance.origin, root)
    if commit is None or commit.engine is None or commit.code.protocol is None or not commit.code.entries:
        return False
    return record.spec.task.plugin_source is None and record.spec.optimizer.plugin_source is None


def _clean(origin: Origin, root: Path) -> Commit | None:
    return None if origin.git_commit is None else commit_of(origin.git_commit, root)


def _short(origin: Origin) -> str:
    return str(origin.git_commit)[:12]


@cache
def commit_of(name: str, root: Path = ROOT) -> Commit | None:
    """Read a commit of a clone by its full hash; None if the clone lacks it."""
    # A branch may move; a hash with -dirty is no commit.
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name):
        return None
    answer = _git(root, "archive", "--format=tar", name, "--", *SOURCE)
    if answer is None:
        return None
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(answer)) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                files[member.name] = file.read()
    tree, code = tree_digest(files), commit_code.read(files)
    lock = files.get(engine_lock_file.NAME)
    if lock is None:
        return Commit(tree, None, {}, code)
    known = engine_lock_file.parse(lock)
    return Commit(tree, known.engine, known.measures, code)


def _git(root: Path, *arguments: str) -> bytes | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=30, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
