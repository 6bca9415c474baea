"""Write the finished records of the store into results/records, a JSON line a run.

A published record is the run's record without anything that belongs to one machine's disk: no path, no diff,
no host name, at most 10 kB. The lines of a task lie in one file, sorted by run id, so that publishing again
changes nothing. Records that were published before stay; a run published with other results is refused.
"""

from __future__ import annotations

import argparse
import fnmatch
from collections import defaultdict
from pathlib import Path
from typing import Any

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
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run_id in (record["run_id"] for record in store.index()):
        record = store.run(run_id).result()
        if record is not None:
            by_task[record["spec"]["task"]["name"]].append(strip(record))
    wanted = {task for task in by_task if any(fnmatch.fnmatchcase(task, g) for g in args.task or ["*"])}
    if not wanted:
        raise SteppeError(f"no finished run to publish in {store.root}; `steppe status` lists its runs")
    told = [publish(args.to / f"{task}.jsonl", by_task[task]) for task in sorted(wanted)]
    if args.json:
        options.print_json(told)
    else:
        for row in told:
            print(f"{row['file']}: {row['n_records']} records, {row['n_new']} new")
    return 0


def publish(path: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge records into one file; SteppeError where a run was published with other results."""
    known = {record["run_id"]: record for record in read_records(path)} if path.exists() else {}
    n_new = 0
    for record in records:
        before = known.get(record["run_id"])
        if before is not None and before["results"] != record["results"]:
            raise SteppeError(
                f"{path}: run {record['run_id']} is published with other results; "
                "find out why before you delete that line"
            )
        n_new += before is None
        known.setdefault(record["run_id"], record)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(to_line(known[run_id]) for run_id in sorted(known))
    if not path.exists() or path.read_bytes() != lines:
        write_whole(path, lines)
    return {"file": str(path), "n_records": len(known), "n_new": n_new}
