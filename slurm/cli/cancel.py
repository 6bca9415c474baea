"""Remove jobs of the store from the queue: all of them, or those of the named submissions and runs.

Running jobs checkpoint first. `steppe retry --cancelled` resumes cancelled runs. Cancelling a run cancels its
array task and every other run of that task; the command lists those runs.
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
        help="a submission, or a run id or a unique prefix of one (default: everything in the queue)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation on a terminal")
    options.add_store(parser)


def execute(args: Arguments) -> int:
    """Cancel the chosen tasks; return 0 even if nothing is in the queue."""
    root = args.store.root
    runs, names = _targets(root, args)
    if not submissions(root):
        options.put(f"nothing of the store {root} was handed to a cluster")
        return 0
    interactive = not args.yes and sys.stdin.isatty() and sys.stdout.isatty()
    # The lock is not held while the user decides, so the queue is read again afterwards.
    if interactive and (tasks := _chosen(in_queue(root), runs, names)):
        options.put(_described(root, tasks, runs))
        if not _agreed():
            options.put("nothing was cancelled")
            return 0
    with exclusive(root, options.put):
        queue = in_queue(root)
        tasks = _chosen(queue, runs, names)
        if not tasks:
            options.put("nothing of that is in the queue" if args.what else "nothing is in the queue")
            return 0
        if not interactive:
            options.put(_described(root, tasks, runs))
        state.cancel(queue, tasks)
    retry = args.command("retry", "--cancelled")
    options.put(f"cancelled; what was in work saves and stops. `{retry}` goes on with it")
    return 0


def _targets(root: Path, args: Arguments) -> tuple[set[str], set[str]]:
    """Split the arguments into run ids and submission names; raise SteppeError for an unknown one."""
    known = {submission.name for submission in submissions(root)}
    names = {name for name in args.what if "-" in name}  # no run has a hyphen
    for name in names - known:
        listing = args.command("status", "--json")
        raise unknown("submission", name, known, f"`{listing}` lists them")
    store = Store(root)
    return {store.find(name).run_id for name in args.what if name not in names}, names


def _chosen(queue: Iterable[Task], runs: set[str], names: set[str]) -> list[Task]:
    """Select the tasks to cancel. In a shared store each user cancels only their own."""
    return [
        task
        for task in queue
        if task.is_mine
        and (not (runs or names) or task.batch.submission in names or not runs.isdisjoint(task.runs))
    ]


def _agreed() -> bool:
    try:
        return input("cancel it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _described(root: Path, tasks: Sequence[Task], runs: set[str]) -> str:
    """Describe what will be cancelled, including the runs that share a task with a named one."""
    n_running = sum(task.state == "running" for task in tasks)
    store = Store(root)
    open_runs = {run_id for task in tasks for run_id in task.runs if not store.is_done(run_id)}
    lines = [
        f"cancelling {n_running} running and {len(tasks) - n_running} pending tasks "
        f"with {len(open_runs)} runs to do"
    ]
    for task in tasks:
        others = [run_id for run_id in task.runs if run_id in open_runs and run_id not in runs]
        if others and not runs.isdisjoint(task.runs):
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            lines.append(f"task {task.job} also holds {', '.join(others[:_NAMED])}{more}")
    return "\n".join(lines)
