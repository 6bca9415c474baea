"""Check published records: whole, publishable, their id and accuracy agreeing with their content."""

from __future__ import annotations

import argparse
from pathlib import Path

from suite.cli import options
from suite.cli.publish import RECORDS
from suite.errors import SteppeError
from suite.published import check_published, read_records


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help=f"published files (default: {RECORDS}/*.jsonl)"
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Check every line of every file; the first that is wrong is the error."""
    files = args.files or sorted(RECORDS.glob("*.jsonl"))
    if not files:
        raise SteppeError(f"no published records in {RECORDS}; `steppe publish` writes them")
    counts = {str(path): _check(path) for path in files}
    if args.json:
        options.print_json(counts)
    else:
        for path, n in counts.items():
            print(f"{path}: {n} records, all sound")
    return 0


def _check(path: Path) -> int:
    records = read_records(path)
    ids = [record["run_id"] for record in records]
    if ids != sorted(set(ids)):
        raise SteppeError(f"{path}: run ids are not in order or not unique; publish the runs again")
    for number, record in enumerate(records, 1):
        check_published(record, Path(f"{path}:{number}"))
    return len(records)
