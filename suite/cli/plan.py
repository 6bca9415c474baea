"""Expand the selectors, compare with the store, forecast cost and time; no side effect.

Cost is declared by the optimizers. Time is reckoned from the steps that runs of this store took, unfinished
ones included; where nothing like a run was timed yet, it is said how to find out.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any

from suite.cli import options
from suite.entries.declared import Declared
from suite.entries.registry import Registry
from suite.entries.select import declared_cost
from suite.report.text import plural
from suite.spec import RunSpec
from suite.status.forecast import Forecast, Guess
from suite.status.sight import FINAL, WORDS
from suite.status.watch import Watch
from suite.store.store import Store
from suite.terminal.table import count, duration

STATES = (*("new" if word == "queued" else word for word in WORDS), *options.IN_RECORDS)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_selectors(parser)
    options.add_store(parser)
    options.add_workers(parser)
    options.add_records(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print what `steppe run` with the same options would do, and what it would cost."""
    registry = Declared(args.plugin)
    specs = options.specs(args, registry)
    store = Store(options.store_root(args))
    sight = Watch(store).look()
    recorded = options.recorded(args, specs, store, registry)
    states = {run_id: (state, 1.0) for run_id, state in recorded.items()}
    states |= {
        run.run_id: (run.status, run.fraction)
        for run in sight.runs
        if run.run_id not in states or run.status in FINAL
    }
    for spec in specs:  # those of damaged folders were not seen; asked again, they say so
        if spec.run_id not in states:
            states[spec.run_id] = store.run(spec.run_id).status(), 0.0
    planned = Planner(registry, sight.forecast).plan(specs, states)
    workers = args.workers or options.default_workers(specs[0]) if specs else 1
    if args.json:
        options.print_json({"runs": [row.to_dict() for row in planned], **totals(planned, workers)})
        return 0
    options.put(
        render(planned, workers, store, shlex.join(["steppe", "run", *options.selector_arguments(args)]))
    )
    return 0


@dataclass(frozen=True)
class Planned:
    """A run of the plan: its state in the store and what it costs, as far as that can be known."""

    spec: RunSpec
    state: str
    task: str
    optimizer: str
    sample_gradients: int | None
    """Of the whole run."""
    guess: Guess | None
    """The time of the whole run."""
    fraction: float = 0.0
    """How much of its training is done already."""

    @property
    def seconds_left(self) -> float | None:
        """What is left of its time."""
        return None if self.guess is None else self.guess.seconds * (1.0 - self.fraction)

    @property
    def gradients_left(self) -> int | None:
        """What is left of its cost."""
        return None if self.sample_gradients is None else round(self.sample_gradients * (1.0 - self.fraction))

    @property
    def to_do(self) -> bool:
        """Whether `steppe run` would work on it."""
        return self.state not in (*FINAL, *options.IN_RECORDS, "running")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {
            "run_id": self.spec.run_id,
            "state": self.state,
            "task": self.task,
            "optimizer": self.optimizer,
            "seed": self.spec.seed,
            "data": self.spec.data,
            "epochs": self.spec.epochs,
            "sample_gradients": self.sample_gradients,
            "seconds": None if self.guess is None else self.guess.seconds,
            "seconds_like": None if self.guess is None else self.guess.like,
            "fraction_done": 1.0 if self.state in ("done", *options.IN_RECORDS) else self.fraction,
        }


class Planner:
    """Forecasts from declared costs and from what runs of the store took."""

    def __init__(self, registry: Registry, forecast: Forecast) -> None:
        self._registry = registry
        self._forecast = forecast

    def plan(self, specs: Iterable[RunSpec], states: Mapping[str, tuple[str, float]]) -> list[Planned]:
        """Attach state and forecast to every run; `states` has each one's status and the fraction done."""
        return [self._one(spec, *states[spec.run_id]) for spec in specs]

    def _one(self, spec: RunSpec, status: str, fraction: float) -> Planned:
        gradients = self._sample_gradients(spec)
        return Planned(
            spec=spec,
            state="new" if status == "queued" else status,
            task=spec.task.label(self._registry.task(spec.task.name).entry.params),
            optimizer=spec.optimizer.label(self._registry.optimizer(spec.optimizer.name).entry.params),
            sample_gradients=gradients,
            guess=self._forecast.seconds(spec, gradients),
            fraction=fraction,
        )

    def _sample_gradients(self, spec: RunSpec) -> int | None:
        """Multiply epochs, training examples and declared cost; None where their number is not known."""
        declared = self._registry.resolve_task(spec.task).training_examples(spec.data)
        n = self._forecast.n_train(spec) if declared is None else declared
        return None if n is None else round(spec.epochs * n * declared_cost(self._registry, spec.optimizer))


def totals(planned: list[Planned], workers: int) -> dict[str, Any]:
    """Count by state and add up what is left; seconds are of the wall clock on `workers` processes."""
    left = [row for row in planned if row.to_do]
    gradients = [row.gradients_left for row in left]
    times = [row.seconds_left for row in left]
    known = [t for t in times if t is not None]
    seconds = None
    if len(known) == len(times):  # no process shares a run: the longest takes what it takes
        seconds = max(max(known, default=0.0), math.fsum(known) / max(1, min(workers, len(left))))
    return {
        "n_runs": len(planned),
        "states": {state: n for state in STATES if (n := sum(row.state == state for row in planned))},
        "n_left": len(left),
        "sample_gradients_left": None if None in gradients else sum(g for g in gradients if g is not None),
        "seconds_left": seconds,
        "finished_at": None if seconds is None or not left else _iso(seconds),
        "workers": workers,
    }


def _iso(seconds_from_now: float) -> str:
    then = datetime.now().astimezone() + timedelta(seconds=seconds_from_now)
    return then.isoformat(timespec="seconds")


def render(planned: list[Planned], workers: int, store: Store, run: str) -> str:
    """Write the plan for a person: a line a task and optimizer, the totals, the command."""
    groups: dict[tuple[str, str, float], list[Planned]] = defaultdict(list)
    for row in planned:
        groups[row.task, row.optimizer, row.spec.epochs].append(row)
    lines = [["task", "data", "optimizer", "epochs", "runs", "to do", "cost a run", "time a run"]]
    for (task, optimizer, epochs), rows in groups.items():
        to_do = sum(row.to_do for row in rows)
        names = [options.shorten(task), rows[0].spec.data, options.shorten(optimizer)]
        numbers = [f"{epochs:.4g}", str(len(rows)), str(to_do), count(rows[0].sample_gradients)]
        lines.append([*names, *numbers, _time_of(rows)])
    return "\n".join([options.table(lines), "", *_told(planned, workers, store), f"start them: {run}"])


def _time_of(rows: list[Planned]) -> str:
    guesses = [row.guess for row in rows if row.guess is not None]
    if not guesses:
        return "not timed"
    rough = "" if guesses[0].like == "hyperparameters" else " *"
    return options.seconds(fmean(guess.seconds for guess in guesses)) + rough


def _told(planned: list[Planned], workers: int, store: Store) -> list[str]:
    """Say what is done, what is left, how long that takes, and whence that is known."""
    all_of = totals(planned, workers)
    states = ", ".join(f"{n} {state}" for state, n in all_of["states"].items())
    n_left, left_s = all_of["n_left"], all_of["seconds_left"]
    lines = [f"{all_of['n_runs']} {plural(len(planned), 'run')} in {store.root}: {states}"]
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
