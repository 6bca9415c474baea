"""Write the finished records of the store into results/records, a JSON line a run.

A published record names no path, no diff and no host, and has at most 10 kB. The lines of a task lie in one
file, sorted by run id, so that publishing again changes nothing. Records that were published before stay; a
run published with other results is refused. An estimate that `steppe measure --write` replaced is published
in the place of the old one, unless that is of a newer version. Where one run cannot be published, none is.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from suite.cli import options
from suite.errors import SteppeError
from suite.files import locked, write_whole
from suite.publishing.published import publishable, read_records
from suite.records import schema
from suite.records.schema import Record
from suite.store.store import Store

RECORDS = Path("results/records")
LOCK = ".lock"
"""File in the folder of the records that who publishes there holds, from reading it to writing it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-t", "--task", action="append", metavar="GLOB", help="only these tasks (default: all)"
    )
    options.add_store(parser)
    parser.add_argument(
        "--to", type=Path, default=RECORDS, metavar="DIR", help=f"where to (default: {RECORDS})"
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Merge the store's records into the published files and say what changed."""
    store = Store(options.store_root(args))
    with locked(args.to / LOCK, _say, f"somebody else is publishing into {args.to}"):
        by_task = _finished(store, args.task or ["*"])
        problems: list[str] = []
        files = [merge(args.to / f"{task}.jsonl", by_task[task], problems) for task in sorted(by_task)]
        if problems:
            for problem in problems:
                _say(f"error: {problem}")
            _say(f"nothing is published: all runs of {store.root} are, or none")
            return 2
        for file in files:
            file.write()
    if args.json:
        options.print_json([file.to_dict() for file in files])
    else:
        for file in files:
            again = f", {file.n_again} measured again" if file.n_again else ""
            print(f"{file.path}: {len(file.records)} records, {file.n_new} new{again}")
    return 0


def _finished(store: Store, globs: Sequence[str]) -> dict[str, list[Record]]:
    """Read the records of the tasks asked for, whole."""
    found = store.index()
    for line in found.skipped:
        _say(line)
    listed = [(record.spec.task.name, record.run_id) for record in found]
    del found  # before as much is read again, whole
    by_task: dict[str, list[Record]] = defaultdict(list)
    for task, run_id in listed:
        if any(fnmatch.fnmatchcase(task, glob) for glob in globs):
            record = store.run(run_id).record()
            if record is not None:
                by_task[task].append(record)
    if not by_task:
        raise SteppeError(f"no finished run to publish in {store.root}; `steppe status` lists its runs")
    return by_task


def _say(line: str) -> None:
    print(f"steppe: {line}", file=sys.stderr)


@dataclass(frozen=True)
class Merged:
    """What a published file is to hold."""

    path: Path
    records: Sequence[Record]
    """In the order of the file."""
    n_new: int
    n_again: int
    """Of how many the store has new estimates."""

    def write(self) -> None:
        """Put it into its place, unless it is there already."""
        content = b"".join(map(schema.to_line, self.records))
        if not self.path.exists() or self.path.read_bytes() != content:
            write_whole(self.path, content)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {
            "file": str(self.path),
            "n_records": len(self.records),
            "n_new": self.n_new,
            "n_measured_again": self.n_again,
        }


def merge(path: Path, records: Iterable[Record], problems: list[str]) -> Merged:
    """Merge records with those of a published file; add a line to `problems` about each that may not be."""
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
    """Return the published record with the other's new estimates; SteppeError where results differ."""
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
        if estimate.origin is not None:  # else it is the run's own, which is published already
            measures[name] = estimate
    return msgspec.structs.replace(before, sharpness=msgspec.structs.replace(known, measures=measures))


def _results(record: Record, other: Record) -> tuple[object, ...]:
    """Return all that the run came to; of the evidence, what the other holds too."""
    results = {}
    for split, result in record.results.items():
        twin = other.results.get(split)
        right = {name: bits for name, bits in result.right.items() if twin is not None and name in twin.right}
        results[split] = msgspec.structs.replace(result, right=right)
    return record.status, results, record.facts, record.profiles
