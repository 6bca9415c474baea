"""Write the records of finished runs into results/records, one JSON line per run.

A published record contains no path, diff or host name, and at most 10 kB. All records of a task are in one
file, sorted by run id, so publishing again changes nothing. Published records are kept; a run with results
other than its published ones is refused. An estimate of `steppe measure --write` replaces the published one,
unless that is of a newer version. If one run cannot be published, none is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.publishing.publish import NotPublishedError, publish

RECORDS = Path("results/records")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    tasks = "only these tasks (default: all)"
    parser.add_argument("-t", "--task", action="append", metavar="GLOB", help=tasks)
    options.add_store(parser)
    folder = f"the folder to write to (default: {RECORDS})"
    parser.add_argument("--to", type=Path, default=RECORDS, metavar="DIR", help=folder)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Merge the store's records into the published files and report the changes."""
    try:
        files = publish(args.store, args.to, args.task or ["*"], _say)
    except NotPublishedError as error:
        for problem in error.problems:
            _say(f"error: {problem}")
        _say(str(error))
        return 2
    if args.json:
        options.print_json([file.to_dict() for file in files])
    else:
        for file in files:
            again = f", {file.n_again} measured again" if file.n_again else ""
            print(f"{file.path}: {len(file.records)} records, {file.n_new} new{again}")
    return 0


def _say(line: str) -> None:
    print(f"steppe: {line}", file=sys.stderr)
