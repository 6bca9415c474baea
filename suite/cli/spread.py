"""Compare the same runs on two machines: the noise floor of a leaderboard.

steppe spread results/records/digits-cnn.jsonl results/spread/digits-cnn-avx2.jsonl

Each argument is a file of published records or a store. Both must contain the same runs, made on different
processor models, instruction sets or software versions.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.errors import SteppeError
from suite.files import write_whole
from suite.publishing.published import read_records
from suite.records.schema import Record
from suite.store.folders import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("one", type=Path, metavar="ONE", help="published records, or a store")
    parser.add_argument(
        "other", type=Path, metavar="OTHER", help="likewise, of the same runs on another machine"
    )
    file = "the file to write (default: standard output)"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=file)
    options.add_plugins(parser)


def execute(args: Arguments) -> int:
    """Write the report."""
    from suite.report import spread
    from suite.report.boards import declared

    found = spread.spreads(_read(args.one), _read(args.other), *declared(args.cached_registry))
    command = ["steppe", "spread", str(args.one), str(args.other)]
    command += [piece for plugin in args.plugin for piece in ("--plugin", str(plugin))]
    content = spread.render(found, shlex.join([*command, *(["-o", str(args.output)] if args.output else [])]))
    if args.output is None:
        sys.stdout.write(content)
    else:
        write_whole(args.output, content.encode())
    return 0


def _read(path: Path) -> list[Record]:
    if path.is_dir():
        store = Store(path)
        found = (store.run(run_id).record() for run_id in store.run_ids() if store.is_done(run_id))
        return [record for record in found if record is not None]
    if not path.is_file():
        raise SteppeError(f"{path} does not exist: give a file of published records or the folder of a store")
    return list(read_records(path))
