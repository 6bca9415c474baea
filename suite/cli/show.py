"""Show one run: spec, results, provenance, curves, and the exact command that reproduces it.

Each curve is drawn on one line, epochs from left to right, scaled from its minimum to its maximum. --curve
prints the values of every epoch instead; --json includes them.
"""

from __future__ import annotations

import argparse

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.report.known_run import gather
from suite.report.run_text import render
from suite.status.queue_poller import QueuePoller, QueueState, glance


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="the run's id or an unambiguous prefix")
    options.add_store(parser)
    options.add_plugins(parser)
    parser.add_argument("--curve", action="store_true", help="print the values of every epoch")
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print everything that the store knows about the run, and its place in the queue."""
    store = args.store
    folder = store.find(args.run)
    queue = QueueState({}) if store.is_done(folder.run_id) else QueuePoller(store.root, ask=glance)()
    known = gather(folder, args.cached_registry, queue)
    if args.json:
        options.print_json(known.to_dict())
    else:
        options.put(render(known, numbers=args.curve))
    return 0
