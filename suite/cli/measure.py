"""Measure the sharpness of a finished run again, from its kept weights, with measures of your choice.

steppe measure 3f2a -m lambda_max -m hessian_trace
steppe measure 3f2a -m lpf --examples 2000

The record is left as it is: the numbers are printed beside the recorded ones.
"""

from __future__ import annotations

import argparse
from typing import Any

from suite.cli import options
from suite.errors import SteppeError, unknown
from suite.store import RunFolder, Store


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
    options.add_store(parser)
    options.add_data(parser)
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Load the final weights, re-estimate BatchNorm as the run did, measure and print."""
    from suite.sharpness import MEASURES

    names = args.measure or list(MEASURES)
    for name in names:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES, mend="`steppe list measures` describes them")
    folder = Store(options.store_root(args)).find(args.run)
    measured = measure(folder, names, args)
    recorded = ((folder.record() or {}).get("sharpness") or {}).get("measures") or {}
    if args.json:
        options.print_json({"run_id": folder.run_id, "measured": measured, "recorded": recorded})
        return 0
    keys = ["value", "se_probes", "se_examples", "n", "probes", "estimator"]
    header = ["measure", *keys, "recorded"]
    rows = [
        [name, *(_text(row[key]) for key in keys), _text((recorded.get(name) or {}).get("value"))]
        for name, row in measured.items()
    ]
    print(options.table([header, *rows]))
    return 0


def measure(folder: RunFolder, names: list[str], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Estimate the named measures at the run's final point; SteppeError where its weights are not kept."""
    status = folder.status()
    if status != "done":
        raise SteppeError(f"run {folder.run_id} is {status}: only a run that is done has final weights")
    state = folder.last_state()
    from suite import sharpness
    from suite.context import build_model, prepare
    from suite.evaluate import reestimate_batchnorm
    from suite.record import measure_point, statistics_batches

    context = prepare(folder.spec(), folder, options.registry(args), options.data_root(args))
    if state is None or state["step"] != context.total_steps:
        raise SteppeError(
            f"run {folder.run_id} keeps no final weights: delete {folder.path} and run it again to have them"
        )
    model = build_model(context)
    model.load_state_dict(state["model"])
    reestimate_batchnorm(model, statistics_batches(context))
    point = measure_point(context, model, args.examples)
    return {name: estimate.to_dict() for name, estimate in sharpness.measure(point, names).items()}


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
