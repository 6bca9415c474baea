"""Publish the finished records of a store: one JSON line per run, one file per task.

The lines of a file are sorted by run id, so that publishing again changes nothing. Earlier records stay; a
run published with other results is refused. An estimate from `steppe measure --write` replaces the published
one; an estimate of an older version is refused. If one run cannot be published, no run is published.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from suite.errors import SteppeError
from suite.files import locked, write_whole
from suite.publishing.published import publishable, read_records
from suite.records import schema
from suite.records.schema import Record
from suite.store.folders import Store

LOCK = ".lock"
"""Lock file in the folder of published files, held from the first read to the last write."""


class NotPublishedError(SteppeError):
    """Nothing was published; `problems` has one line per run that cannot be published."""

    def __init__(self, problems: Sequence[str], store: Path) -> None:
        super().__init__(f"nothing is published: all runs of {store} are, or none")
        self.problems = problems


def publish(
    store: Store, folder: Path, tasks: Sequence[str] = ("*",), say: Callable[[str], None] = lambda _: None
) -> list[Merged]:
    """Merge the records of a store into the published files of a folder; return the content of each file.

    Args:
        store: the store.
        folder: folder of the published files.
        tasks: globs of the tasks whose records are published.
        say: called with a line per damaged record, and per wait for another process that publishes.

    Raises:
        NotPublishedError: a run cannot be published.
        SteppeError: the store has no record to publish.

    """
    with locked(folder / LOCK, say, f"somebody else is publishing into {folder}"):
        by_task = _finished(store, tasks, say)
        problems: list[str] = []
        files = [merge(folder / f"{task}.jsonl", by_task[task], problems) for task in sorted(by_task)]
        if problems:
            raise NotPublishedError(problems, store.root)
        for file in files:
            file.write()
    return files


def _finished(store: Store, globs: Sequence[str], say: Callable[[str], None]) -> dict[str, list[Record]]:
    """Read the full records of the tasks that match a glob, by task."""
    found = store.index()
    for line in found.skipped:
        say(line)
    listed = [(record.spec.task.name, record.run_id) for record in found]
    del found  # frees memory before the full records are read
    by_task: dict[str, list[Record]] = defaultdict(list)
    for task, run_id in listed:
        if any(fnmatch.fnmatchcase(task, glob) for glob in globs):
            record = store.run(run_id).record()
            if record is not None:
                by_task[task].append(record)
    if not by_task:
        raise SteppeError(f"no finished run to publish in {store.root}; `steppe status` lists its runs")
    return by_task


@dataclass(frozen=True)
class Merged:
    """New content of a published file."""

    path: Path
    records: Sequence[Record]
    """In the order of the file."""
    n_new: int
    n_again: int
    """Number of published records with new estimates in the store."""

    def write(self) -> None:
        """Write the file, unless it has this content already."""
        content = b"".join(map(schema.to_line, self.records))
        if not self.path.exists() or self.path.read_bytes() != content:
            write_whole(self.path, content)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for --json."""
        return {
            "file": str(self.path),
            "n_records": len(self.records),
            "n_new": self.n_new,
            "n_measured_again": self.n_again,
        }


def merge(path: Path, records: Iterable[Record], problems: list[str]) -> Merged:
    """Merge records with those of a published file; add a line to `problems` per record that is refused."""
    known: dict[str, Record] = {}
    n_new = n_again = 0
    try:
        if path.exists():
            known = {record.run_id: record for record in read_records(path)}
    except SteppeError as error:
        problems.append(str(error))
    for record in records:
        before = known.get(record.run_id)
        try:
            merged = publishable(record if before is None else _measured_again(before, record))
        except SteppeError as error:
            problems.append(str(error))
            continue
        n_new += before is None
        n_again += before is not None and merged != before
        known[record.run_id] = merged
    return Merged(path, [known[run_id] for run_id in sorted(known)], n_new, n_again)


def _measured_again(before: Record, record: Record) -> Record:
    """Return `before` with new estimates of `record`; SteppeError for other results or an older estimate."""
    if _results(before, record) != _results(record, before):
        here, there = (one.provenance.origin.fingerprint for one in (record, before))
        machines = f"both from {here}" if here == there else f"from {there}, here from {here}"
        raise SteppeError(
            f"run {record.run_id} is published with other results, {machines}: find out why before you "
            f"delete that line"
        )
    if record.sharpness is None:
        return before
    known = before.sharpness or msgspec.structs.replace(record.sharpness, measures={})
    measures = dict(known.measures)
    for name, estimate in record.sharpness.measures.items():
        published = measures.get(name)
        if published is not None and published.version > estimate.version:
            raise SteppeError(
                f"run {record.run_id} is published with version {published.version} of {name}, the store has "
                f"version {estimate.version}: `steppe measure {record.run_id} -m {name} --write` brings it "
                f"to the newest"
            )
        if estimate.origin is not None:  # an estimate of the run itself is published already
            measures[name] = estimate
    return msgspec.structs.replace(before, sharpness=msgspec.structs.replace(known, measures=measures))


def _results(record: Record, other: Record) -> tuple[object, ...]:
    """Return the outcome of a run, with only the evidence that the other record also holds."""
    results = {}
    for split, result in record.results.items():
        twin = other.results.get(split)
        right = {name: bits for name, bits in result.right.items() if twin is not None and name in twin.right}
        results[split] = msgspec.structs.replace(result, right=right)
    return record.status, results, record.facts, record.profiles
