"""Show the status of the runs of the store; --watch follows the running ones.

A running run reports its progress once per epoch. The time left is forecast from the pace of its last epochs,
and for waiting runs from similar ones. If runs were submitted to a cluster, its queue is queried once, by
--watch about every ten seconds. Ctrl-C ends --watch; the runs continue.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.errors import SteppeError
from suite.status.monitor import follow
from suite.status.overview import listing, overview, warnings
from suite.status.queue_poller import QueuePoller, glance
from suite.status.snapshot import RunStatus, Snapshot
from suite.status.watch import Watch
from suite.terminal.screen import Screen

_BAD = ("failed", "error", "lost")
"""Statuses for which the exit code is 1."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_store(parser)
    parser.add_argument("--runs", action="store_true", help="one line per run instead of counts")
    parser.add_argument(
        "--watch", action="store_true", help="follow the runs until none is running; Ctrl-C ends it"
    )
    parser.add_argument(
        "--interval",
        type=options.positive,
        default=2.0,
        metavar="S",
        help="seconds between updates of --watch (default: 2)",
    )
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print the status of the runs; 1 if a run failed, is lost, or could not be read, else 0."""
    if args.watch and (args.json or args.runs):
        raise SteppeError(
            "--watch is interactive and takes neither --json nor --runs; for a program, use "
            f"`{args.command('status', '--json')}`"
        )
    store = args.store
    if args.watch:
        watch = Watch(store, QueuePoller(store.root))
        return _code(follow(watch, Screen(sys.stdout), args.interval, args.command))
    snapshot = Watch(store, QueuePoller(store.root, ask=glance)).look()
    if args.json:
        totals = {"seconds_left": snapshot.left_s, "scheduler_silent": snapshot.silent}
        options.print_json({"runs": list(map(_plain, snapshot.runs)), "damaged": snapshot.damaged, **totals})
    elif not snapshot.runs:
        options.put(f"no runs in {store.root}: start some with `steppe run` or `steppe demo`")
    else:
        options.put(listing(snapshot) if args.runs else overview(snapshot, args.command))
    for line in warnings(snapshot):
        options.put(line, sys.stderr)
    return _code(snapshot)


def _code(snapshot: Snapshot) -> int:
    return 1 if snapshot.damaged or any(run.status in _BAD for run in snapshot.runs) else 0


def _plain(run: RunStatus) -> dict[str, Any]:
    """Return a run as data for --json."""
    of_run = ("run_id", "status", "step", "steps", "failure", "reason", "log", "attempts")
    of_row = ("epoch", "loss", "score", "metric", "unit", "sample_gradients")
    return {
        **{name: getattr(run, name) for name in of_run},
        **{name: getattr(run.row, name) for name in of_row},
        **{name: getattr(run.spec, name) for name in ("seed", "data", "precision", "epochs")},
        **{name: getattr(run.placed, name, "") for name in ("submission", "job", "node")},
        "task": run.spec.task.name,
        "optimizer": run.spec.optimizer.name,
        "seconds_left": run.row.left_s,
    }
