"""Measure the sharpness of a finished run again, from its saved weights, with chosen measures.

steppe measure 3f2a -m lambda_max -m hessian_trace
steppe measure 3f2a -m lpf --examples 2000
steppe measure 3f2a -m lambda_max --write

The new estimates are printed next to the recorded ones. --write replaces those in the run's record, each with
the code and machine that made it; nothing else replaces an estimate. `steppe publish` then publishes them.
"""

from __future__ import annotations

import argparse

import msgspec

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.stored_run import StoredRun
from suite.errors import SteppeError, unknown
from suite.report.run_text import ESTIMATE
from suite.terminal.output import cell, table


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="the run's id or an unambiguous prefix")
    names = "see `steppe list measures` (default: all)"
    parser.add_argument("-m", "--measure", action="append", metavar="NAME", help=names)
    examples = "training examples (default: the task's own)"
    parser.add_argument("--examples", type=options.whole(2), metavar="N", help=examples)
    write = "put the estimates into the run's record, with their origin"
    parser.add_argument("--write", action="store_true", help=write)
    options.add_store(parser)
    options.add_data(parser)
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Load the final weights, re-estimate BatchNorm as the run did, measure, print, and record if asked."""
    from suite.sharpness import MEASURES

    names = args.measure or list(MEASURES)
    for name in names:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES, hint="`steppe list measures` describes them")
    if args.write and args.examples is not None:
        raise SteppeError("--write records estimates on the task's own examples: leave --examples out")
    folder = args.store.find(args.run)
    record = folder.record()
    if record is None or record.failed:
        state = folder.status()
        raise SteppeError(f"run {folder.run_id} is {state}: only a finished run has final weights")
    from suite.engine.remeasure import remeasure

    run = StoredRun(folder, args.registry, args.data_root)
    measured = remeasure(run, record, names, n_examples=args.examples, write=args.write)
    recorded = {} if record.sharpness is None else record.sharpness.measures
    if args.json:
        estimates = {"measured": msgspec.to_builtins(measured), "recorded": msgspec.to_builtins(recorded)}
        options.print_json({"run_id": folder.run_id, **estimates, "written": args.write})
        return 0
    rows = [["measure", *ESTIMATE, "recorded", "its version"]]
    for name, one in measured.items():
        known = recorded.get(name)
        values = [*(getattr(one, key) for key in ESTIMATE), known and known.value, known and known.version]
        rows.append([name, *map(cell, values)])
    print(table(rows))
    if args.write:
        print(f"written into the record of run {folder.run_id}")
    return 0
