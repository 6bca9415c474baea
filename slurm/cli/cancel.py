"""Take runs of the store back from the cluster: all that are in its queue, or those named.

Runs in work save and stop. What was cancelled goes on with `steppe retry --cancelled`. A run shares its
task with others: to cancel it is to cancel the task, and the others with it, which is said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from slurm import state
from slurm.state import Task, in_queue
from slurm.submission import exclusive, submissions
from suite.cli import options
from suite.cli.arguments import Arguments
from suite.errors import unknown
from suite.store.folders import Store

_NAMED = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="SUBMISSION|RUN",
        help="a submission, or a run's id or enough of its beginning (default: all that is in the queue)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask, also on a terminal")
    options.add_store(parser)


def execute(args: Arguments) -> int:
    """Cancel what is in the queue; 0 also where there is nothing."""
    root = args.store.root
    runs, names = _targets(root, args)
    if not submissions(root):
        options.put(f"nothing of the store {root} was handed to a cluster")
        return 0
    asks = not args.yes and sys.stdin.isatty() and sys.stdout.isatty()
    if asks:
        found = _chosen(in_queue(root), runs, names)
        if found:
            options.put(_described(root, found, runs))
            if not _agreed():
                options.put("nothing was cancelled")
                return 0
    with exclusive(root, options.put):
        every = in_queue(root)
        found = _chosen(every, runs, names)
        if not found:
            options.put("nothing of that is in the queue" if args.what else "nothing is in the queue")
            return 0
        if not asks:
            options.put(_described(root, found, runs))
        state.cancel(every, found)
    retry = args.command("retry", "--cancelled")
    options.put(f"cancelled; what was in work saves and stops. `{retry}` goes on with it")
    return 0


def _targets(root: Path, args: Arguments) -> tuple[set[str], set[str]]:
    """Tell runs from submissions; SteppeError where something is neither."""
    known = {one.name for one in submissions(root)}
    names = {name for name in args.what if "-" in name}  # no run has a hyphen
    for name in names - known:
        listing = args.command("status", "--json")
        raise unknown("submission", name, known, f"`{listing}` lists them")
    store = Store(root)
    return {store.find(name).run_id for name in args.what if name not in names}, names


def _chosen(every: Iterable[Task], runs: set[str], names: set[str]) -> list[Task]:
    """Choose what may be cancelled: in a store that people share, each cancels what is theirs."""
    return [
        task
        for task in every
        if task.is_mine
        and (not (runs or names) or task.batch.submission in names or not runs.isdisjoint(task.runs))
    ]


def _agreed() -> bool:
    try:
        return input("cancel it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _described(root: Path, found: Sequence[Task], runs: set[str]) -> str:
    """Say what will be cancelled, and what else of a task if runs were named."""
    n_running = sum(task.state == "running" for task in found)
    store = Store(root)
    open_runs = {run_id for task in found for run_id in task.runs if not store.is_done(run_id)}
    lines = [
        f"cancelling {n_running} running and {len(found) - n_running} pending tasks "
        f"with {len(open_runs)} runs to do"
    ]
    for task in found:
        others = [run_id for run_id in task.runs if run_id in open_runs and run_id not in runs]
        if others and not runs.isdisjoint(task.runs):
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            lines.append(f"task {task.job} also holds {', '.join(others[:_NAMED])}{more}")
    return "\n".join(lines)
