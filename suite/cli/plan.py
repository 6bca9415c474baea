"""Expand the selectors, compare with the store, forecast cost and time; no side effect.

Cost is declared by the optimizers. Time is reckoned from the steps that runs of this store took, unfinished
ones included; where nothing like a run was timed yet, it is said how to find out.
"""

from __future__ import annotations

import argparse
import shlex
from collections import defaultdict
from statistics import fmean

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.publishing.recorded import recorded
from suite.status.plan import PlannedRun, plan, totals
from suite.store.folders import Store
from suite.terminal.table import count, duration


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_selectors(parser)
    options.add_store(parser)
    options.add_workers(parser)
    options.add_records(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print what `steppe run` with the same options would do, and what it would cost."""
    registry, store = args.cached_registry, args.store
    specs = args.selection.expand(registry)
    planned = plan(specs, store, registry, recorded(args.records, specs, store, registry))
    workers = args.n_workers(specs[0])
    if args.json:
        options.print_json({"runs": [row.to_dict() for row in planned], **totals(planned, workers)})
        return 0
    options.put(render(planned, workers, store, shlex.join(["steppe", "run", *args.run_options()])))
    return 0


def render(planned: list[PlannedRun], workers: int, store: Store, run: str) -> str:
    """Write the plan for a person: a line a task and optimizer, the totals, the command."""
    groups: dict[tuple[str, str, float], list[PlannedRun]] = defaultdict(list)
    for row in planned:
        groups[row.task, row.optimizer, row.spec.epochs].append(row)
    lines = [["task", "data", "optimizer", "epochs", "runs", "to do", "cost a run", "time a run"]]
    for (task, optimizer, epochs), rows in groups.items():
        to_do = sum(row.to_do for row in rows)
        names = [options.shorten(task), rows[0].spec.data, options.shorten(optimizer)]
        numbers = [f"{epochs:.4g}", str(len(rows)), str(to_do), count(rows[0].sample_gradients)]
        lines.append([*names, *numbers, _time_of(rows)])
    return "\n".join([options.table(lines), "", *_told(planned, workers, store), f"start them: {run}"])


def _time_of(rows: list[PlannedRun]) -> str:
    guesses = [row.guess for row in rows if row.guess is not None]
    if not guesses:
        return "not timed"
    rough = "" if guesses[0].like == "hyperparameters" else " *"
    return options.seconds(fmean(guess.seconds for guess in guesses)) + rough


def _told(planned: list[PlannedRun], workers: int, store: Store) -> list[str]:
    """Say what is done, what is left, how long that takes, and whence that is known."""
    all_of = totals(planned, workers)
    states = ", ".join(f"{n} {state}" for state, n in all_of["states"].items())
    n_left, left_s = all_of["n_left"], all_of["seconds_left"]
    lines = [f"{all_of['n_runs']} run{'' if len(planned) == 1 else 's'} in {store.root}: {states}"]
    if n_left == 0:
        return [*lines, "nothing to do"]
    on = f"{workers} process{'' if workers == 1 else 'es'}"
    cost = f"{n_left} to do: {count(all_of['sample_gradients_left'])} sample-gradients"
    if left_s is not None:
        until = options.moment(left_s)
        lines.append(f"{cost}, about {duration(left_s)} on {on}; started now, they end about {until}")
    else:
        lines.append(f"{cost}; their time is unknown, as this store has timed no step of such runs:")
        lines.append("after their first epochs this command and `steppe status` tell it")
    if any(row.guess and row.guess.like != "hyperparameters" for row in planned):
        lines.append("* not timed itself: from runs of the task with other hyperparameters or optimizers")
    return lines
