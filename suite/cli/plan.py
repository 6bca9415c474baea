"""List the selected runs with their status, forecast cost and time; changes nothing.

Optimizers declare their cost. Time is forecast from the timed steps of runs in this store, unfinished ones
included; if no similar run has been timed, the output says how to get a forecast.
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
from suite.terminal import output
from suite.terminal.table import count, duration, plural


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_selectors(parser)
    options.add_store(parser)
    options.add_workers(parser)
    options.add_records(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print the runs, cost and time of `steppe run` with the same options."""
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
    """Write the plan as text: a line per task and optimizer, the totals, the command."""
    groups: dict[tuple[str, str, float], list[PlannedRun]] = defaultdict(list)
    for row in planned:
        groups[row.task, row.optimizer, row.spec.epochs].append(row)
    lines = [["task", "data", "optimizer", "epochs", "runs", "to do", "cost a run", "time a run"]]
    for (task, optimizer, epochs), rows in groups.items():
        to_do = sum(row.to_do for row in rows)
        names = [output.shorten(task), rows[0].spec.data, output.shorten(optimizer)]
        numbers = [f"{epochs:.4g}", str(len(rows)), str(to_do), count(rows[0].sample_gradients)]
        lines.append([*names, *numbers, _time_of(rows)])
    return "\n".join([output.table(lines), "", *_totals(planned, workers, store), f"start them: {run}"])


def _time_of(rows: list[PlannedRun]) -> str:
    guesses = [row.guess for row in rows if row.guess is not None]
    if not guesses:
        return "not timed"
    rough = "" if guesses[0].like == "hyperparameters" else " *"
    return options.seconds(fmean(guess.seconds for guess in guesses)) + rough


def _totals(planned: list[PlannedRun], workers: int, store: Store) -> list[str]:
    """Count the runs by state, and write cost and time of the remaining ones with the source of the times."""
    all_of = totals(planned, workers)
    states = ", ".join(f"{n} {state}" for state, n in all_of["states"].items())
    n_left, left_s = all_of["n_left"], all_of["seconds_left"]
    lines = [f"{all_of['n_runs']} {plural(len(planned), 'run')} in {store.root}: {states}"]
    if n_left == 0:
        return [*lines, "nothing to do"]
    on = f"{workers} process{'' if workers == 1 else 'es'}"
    cost = f"{n_left} to do: {count(all_of['sample_gradients_left'])} sample-gradients"
    if left_s is not None:
        until = output.moment(left_s)
        lines.append(f"{cost}, about {duration(left_s)} on {on}; started now, they end about {until}")
    else:
        lines.append(f"{cost}; their time is unknown, as this store has timed no step of such runs:")
        lines.append("after their first epochs this command and `steppe status` show it")
    if any(row.guess and row.guess.like != "hyperparameters" for row in planned):
        lines.append("* not timed itself: from runs of the task with other hyperparameters or optimizers")
    return lines
