"""Measure the sharpness of a finished run again, from its kept weights, with measures of your choice.

steppe measure 3f2a -m lambda_max -m hessian_trace
steppe measure 3f2a -m lpf --examples 2000
steppe measure 3f2a -m lambda_max --write

The numbers are printed next to the recorded ones. --write puts them into the run's record, each with the code
and the machine that made it: it is the one way to replace an estimate, and `steppe publish` takes it over.
"""

from __future__ import annotations

import argparse

import msgspec

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.stored_run import StoredRun
from suite.errors import SteppeError, unknown
from suite.records.schema import Estimate


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="the run's id, or enough of its beginning")
    parser.add_argument(
        "-m",
        "--measure",
        action="append",
        metavar="NAME",
        help="`steppe list measures` (default: all of them)",
    )
    parser.add_argument(
        "--examples", type=options.whole(2), metavar="N", help="training examples (default: the task's own)"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the estimates into the run's record, with their origin"
    )
    options.add_store(parser)
    options.add_data(parser)
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Load the final weights, re-estimate BatchNorm as the run did, measure, print, and write if asked to."""
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
        raise SteppeError(f"run {folder.run_id} is {state}: only a run that is done has final weights")
    from suite.engine.remeasure import remeasure

    run = StoredRun(folder, args.registry, args.data_root)
    measured = remeasure(run, record, names, n_examples=args.examples, write=args.write)
    recorded = {} if record.sharpness is None else record.sharpness.measures
    if args.json:
        plain = {name: msgspec.to_builtins(one) for name, one in measured.items()}
        known = {name: msgspec.to_builtins(one) for name, one in recorded.items()}
        options.print_json(
            {"run_id": folder.run_id, "measured": plain, "recorded": known, "written": args.write}
        )
        return 0
    keys = ["value", "se_probes", "se_examples", "n", "probes", "version", "estimator"]
    rows = [
        [name, *(_text(getattr(one, key)) for key in keys), *_recorded(recorded.get(name))]
        for name, one in measured.items()
    ]
    print(options.table([["measure", *keys, "recorded", "its version"], *rows]))
    if args.write:
        print(f"written into the record of run {folder.run_id}")
    return 0


def _recorded(known: Estimate | None) -> tuple[str, str]:
    return ("-", "-") if known is None else (_text(known.value), str(known.version))


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
