"""Write the finished records of the store into results/records, a JSON line a run.

A published record is the run's record without anything that belongs to one machine's disk: no path, no diff,
no host name, at most 10 kB. The lines of a task lie in one file, sorted by run id, so that publishing again
changes nothing. Records that were published before stay; a run published with other results is refused.
"""

from __future__ import annotations

import argparse
import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from suite.cli import options
from suite.errors import SteppeError
from suite.files import write_whole
from suite.published import read_records, strip, to_line
from suite.store import Store

RECORDS = Path("results/records")


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
    globs = args.task or ["*"]
    by_task: dict[str, list[_Line]] = defaultdict(list)
    for listed in store.index():
        task = listed["spec"]["task"]["name"]
        if any(fnmatch.fnmatchcase(task, glob) for glob in globs):
            record = store.run(listed.run_id).record()
            if record is not None:
                by_task[task].append(_Line.of(strip(record)))
    if not by_task:
        raise SteppeError(f"no finished run to publish in {store.root}; `steppe status` lists its runs")
    told = [publish(args.to / f"{task}.jsonl", by_task[task]) for task in sorted(by_task)]
    if args.json:
        options.print_json(told)
    else:
        for row in told:
            print(f"{row['file']}: {row['n_records']} records, {row['n_new']} new")
    return 0


class _Line(NamedTuple):
    """A record as it is published, and of its content what must stay the same."""

    run_id: str
    results: bytes
    content: bytes

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Line:
        """Write a record; thousands of lines take a tenth of the memory of thousands of records."""
        return cls(record["run_id"], to_line(record["results"]), to_line(record))


def publish(path: Path, lines: Iterable[_Line]) -> dict[str, Any]:
    """Merge records into one file; SteppeError where a run was published with other results."""
    known = {line.run_id: line for line in map(_Line.of, read_records(path))} if path.exists() else {}
    n_new = 0
    for line in lines:
        before = known.setdefault(line.run_id, line)
        if before.results != line.results:
            raise SteppeError(
                f"{path}: run {line.run_id} is published with other results; "
                "find out why before you delete that line"
            )
        n_new += before is line
    path.parent.mkdir(parents=True, exist_ok=True)
    merged = b"".join(known[run_id].content for run_id in sorted(known))
    if not path.exists() or path.read_bytes() != merged:
        write_whole(path, merged)
    return {"file": str(path), "n_records": len(known), "n_new": n_new}
