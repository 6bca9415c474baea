"""Check published records: complete, publishable, fit for a leaderboard, and consistent."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.cli.publish import RECORDS
from suite.errors import SteppeError
from suite.publishing.lineage import checkable, compared
from suite.publishing.published import Examined, examine, recounted


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help=f"published files (default: {RECORDS}/*.jsonl)"
    )
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Check every line of every file and print each error; return 2 if there is any, else 0."""
    files = args.files or sorted(RECORDS.glob("*.jsonl"))
    if not files:
        raise SteppeError(f"no published records in {RECORDS}; write them with `steppe publish`")
    found = [examine(path) for path in files]
    problems = [problem for one in found for problem in one.problems]
    if args.json:
        options.print_json(
            {
                "sound": {str(one.path): len(one.records) for one in found},
                "proven": {str(one.path): sorted(recounted(one.records)[0]) for one in found},
                "claimed": {str(one.path): sorted(recounted(one.records)[1]) for one in found},
                "problems": problems,
            }
        )
    else:
        for one in found:
            print("\n".join(_summary(one)))
    for problem in problems:
        print(f"steppe: error: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _summary(found: Examined) -> Iterator[str]:
    """Yield the number of sound records, and which of their contents are proven or only claimed."""
    n = len(found.records)
    yield f"{found.path}: {n} record{' is' if n == 1 else 's are'} sound"
    if not n:
        return
    proven, claimed = recounted(found.records)
    if proven:
        yield f"  recounted from stored examples: {', '.join(sorted(proven))}"
    yield f"  claimed, and within what can be: {', '.join([*sorted(claimed), 'measures', 'seconds'])}"
    unknown = sum(not checkable(record.provenance.origin) for record in found.records)
    if unknown:
        yield f"  {unknown} name code that this clone does not have: their origin is claimed"
    if unknown < n:
        whole = sum(map(compared, found.records))
        yield f"  {n - unknown} name commits of this clone, and agree with these in what can be compared"
        yield f"  {whole} of them in all: source tree, protocol, engine, measures and code of the entries"
