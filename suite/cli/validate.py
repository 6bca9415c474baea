"""Check published records: whole, publishable, fit for a leaderboard, and agreeing with themselves."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from suite.cli import options
from suite.cli.publish import RECORDS
from suite.errors import SteppeError
from suite.published import check_published, numbered_lines, read_line


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help=f"published files (default: {RECORDS}/*.jsonl)"
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Check every line of every file and name each that is wrong; 2 if there is one."""
    files = args.files or sorted(RECORDS.glob("*.jsonl"))
    if not files:
        raise SteppeError(f"no published records in {RECORDS}; `steppe publish` writes them")
    problems: list[str] = []
    counts = {str(path): check(path, problems) for path in files}
    if args.json:
        options.print_json({"sound": counts, "problems": problems})
    else:
        for path, n in counts.items():
            print(f"{path}: {n} records are sound")
    for problem in problems:
        print(f"steppe: error: {problem}", file=sys.stderr)
    return 2 if problems else 0


def check(path: Path, problems: list[str]) -> int:
    """Count the sound records of a file; what is wrong with the others is appended to `problems`."""
    ids: list[str] = []
    for where, line in numbered_lines(path):
        try:
            record = read_line(line, where)
            check_published(record, where)
        except SteppeError as error:
            problems.append(str(error))
        else:
            ids.append(record["run_id"])
    if ids != sorted(set(ids)):
        problems.append(f"{path}: run ids are not in order or not unique; publish the runs again")
    return len(ids)
