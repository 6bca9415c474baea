"""Count the runs of the store by task, optimizer and state."""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from suite.cli import options
from suite.errors import SteppeError
from suite.store import STATUSES, Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_store(parser)
    parser.add_argument("--runs", action="store_true", help="a line a run instead of counts")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the counts; 1 if some run failed or could not be read, else 0."""
    store = Store(options.store_root(args))
    damaged: list[str] = []
    rows = list(runs(store, damaged))
    if args.json:
        options.print_json({"runs": rows, "damaged": damaged})
    elif not rows:
        print(f"no runs in {store.root}: `steppe run` or `steppe demo` makes some")
    elif args.runs:
        keys = ["run_id", "status", "task", "optimizer", "seed"]
        print(options.table([keys, *([str(row[key]) for key in keys] for row in rows)]))
    else:
        print(options.table(_counts(rows)))
    for line in damaged:
        print(f"steppe: {line}", file=sys.stderr)
    return 1 if damaged or any(row["status"] == "failed" for row in rows) else 0


def runs(store: Store, damaged: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what each run of the store is and how far it is; lines for unreadable ones go to `damaged`."""
    records = store.index()
    damaged.extend(records.skipped)
    finished = {record["run_id"]: record for record in records}
    for run_id in store.run_ids():
        try:
            if run_id in finished:
                record = finished[run_id]
                spec = record["spec"]
                status = "done" if record["status"] == "completed" else "failed"
            else:
                folder = store.run(run_id)
                status, spec = folder.status(), folder.spec().to_dict()
        except SteppeError as error:
            if str(error) not in damaged:
                damaged.append(str(error))
            continue
        yield {
            "run_id": run_id,
            "status": status,
            "task": spec["task"]["name"],
            "optimizer": spec["optimizer"]["name"],
            "seed": spec["seed"],
            "data": spec["data"],
            "precision": spec["precision"],
        }


def _counts(rows: list[dict[str, Any]]) -> list[list[str]]:
    groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        groups[row["task"], row["optimizer"]][row["status"]] += 1
    header = ["task", "optimizer", "runs", *STATUSES]
    body = [
        [task, optimizer, str(counts.total()), *(str(counts[status]) for status in STATUSES)]
        for (task, optimizer), counts in sorted(groups.items())
    ]
    return [header, *body]
