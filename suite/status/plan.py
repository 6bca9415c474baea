"""A plan: what `steppe run` would do with a selection of runs, and what it would cost.

Optimizers declare their cost. Time is forecast from the timed steps of runs in the store, unfinished ones
included.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from suite.entries.registry import Registry
from suite.entries.selection import sample_gradients
from suite.publishing.recorded import IN_RECORDS
from suite.spec import RunSpec
from suite.status.forecast import Forecast, Guess
from suite.status.snapshot import FINAL, WORDS
from suite.status.watch import Watch
from suite.store.folders import Store

STATES = (*("new" if word == "queued" else word for word in WORDS), *IN_RECORDS)


def plan(
    specs: Sequence[RunSpec], store: Store, registry: Registry, elsewhere: Mapping[str, str] | None = None
) -> list[PlannedRun]:
    """Return every run with its state in the store and its forecast; changes nothing.

    `elsewhere`: states of the runs in published records, by run id; see `suite.publishing.recorded`.
    """
    sight = Watch(store).look()
    states = {run_id: (state, 1.0) for run_id, state in (elsewhere or {}).items()}
    states |= {
        run.run_id: (run.status, run.fraction)
        for run in sight.runs
        if run.run_id not in states or run.status in FINAL
    }
    for spec in specs:  # the snapshot lacks damaged runs: reading their status raises the error
        if spec.run_id not in states:
            states[spec.run_id] = store.run(spec.run_id).status(), 0.0
    return Planner(registry, sight.forecast).plan(specs, states)


@dataclass(frozen=True)
class PlannedRun:
    """A run of the plan: its state in the store, and its cost and time if known."""

    spec: RunSpec
    state: str
    task: str
    optimizer: str
    sample_gradients: int | None
    """Cost of the whole run."""
    guess: Guess | None
    """Time of the whole run; None if no similar run was timed."""
    fraction: float = 0.0
    """Fraction of its training that is done."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds of the remaining work."""
        return None if self.guess is None else self.guess.seconds * (1.0 - self.fraction)

    @property
    def gradients_left(self) -> int | None:
        """Sample-gradients of the remaining work."""
        return None if self.sample_gradients is None else round(self.sample_gradients * (1.0 - self.fraction))

    @property
    def to_do(self) -> bool:
        """Whether `steppe run` would train it."""
        return self.state not in (*FINAL, *IN_RECORDS, "running")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for --json."""
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
            "fraction_done": 1.0 if self.state in ("done", *IN_RECORDS) else self.fraction,
        }


class Planner:
    """Forecasts from declared costs and from the times of runs in the store."""

    def __init__(self, registry: Registry, forecast: Forecast) -> None:
        self._registry = registry
        self._forecast = forecast

    def plan(self, specs: Collection[RunSpec], states: Mapping[str, tuple[str, float]]) -> list[PlannedRun]:
        """Attach state and forecast to every run; `states`: status and fraction done, by run id."""
        gradients = sample_gradients(self._registry, specs, self._forecast.n_train)
        return [self._one(spec, *states[spec.run_id], gradients.get(spec.run_id)) for spec in specs]

    def _one(self, spec: RunSpec, status: str, fraction: float, gradients: int | None) -> PlannedRun:
        return PlannedRun(
            spec=spec,
            state="new" if status == "queued" else status,
            task=spec.task.label(self._registry.task(spec.task.name).entry.params),
            optimizer=spec.optimizer.label(self._registry.optimizer(spec.optimizer.name).entry.params),
            sample_gradients=gradients,
            guess=self._forecast.seconds(spec, gradients),
            fraction=fraction,
        )


def totals(planned: list[PlannedRun], workers: int) -> dict[str, Any]:
    """Count runs by state and sum the remaining work; seconds are wall-clock time on `workers` processes."""
    left = [row for row in planned if row.to_do]
    gradients = [row.gradients_left for row in left]
    times = [row.seconds_left for row in left]
    known = [t for t in times if t is not None]
    seconds = None
    if len(known) == len(times):  # a run is not split between workers: the longest is a lower bound
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
