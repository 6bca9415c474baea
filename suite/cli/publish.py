"""Write the finished records of the store into results/records, a JSON line a run.

A published record names no path, no diff and no host, and has at most 10 kB. The lines of a task lie in one
file, sorted by run id, so that publishing again changes nothing. Records that were published before stay; a
run published with other results is refused. An estimate that `steppe measure --write` replaced is published
in the place of the old one, unless that is of a newer version. Where one run cannot be published, none is.
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
    parser.add_argument(
        "-t", "--task", action="append", metavar="GLOB", help="only these tasks (default: all)"
    )
    options.add_store(parser)
    parser.add_argument(
        "--to", type=Path, default=RECORDS, metavar="DIR", help=f"where to (default: {RECORDS})"
    )
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Merge the store's records into the published files and say what changed."""
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
