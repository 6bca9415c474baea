"""A snapshot of a store: the status of its runs, and a forecast of when all are done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from suite.spec import RunSpec
from suite.status.forecast import Forecast, Guess
from suite.status.scheduler import Placed
from suite.store.folders import STATUSES
from suite.terminal.table import RunRow

WORDS = (*STATUSES, "preempted", "lost", "cancelled")
"""Statuses of a run. preempted: started, and waiting in the scheduler's queue to resume; lost: submitted, but
no longer known to the scheduler and without a record; cancelled: removed from the queue by a user."""

FINAL = ("done", "failed")
"""Statuses of runs with a record."""


@dataclass(frozen=True)
class RunStatus:
    """Status of a run at the time of a snapshot; None stands for unknown values."""

    run_id: str
    status: str
    """One of `WORDS`."""
    spec: RunSpec
    row: RunRow
    step: int | None = None
    steps: int | None = None
    failure: str = ""
    """Kind and step of the failure; empty if the run did not fail."""
    placed: Placed | None = None
    """Its job in the scheduler's queue; None if it was never submitted or is done."""
    reason: str = ""
    """Reason for the status, from the run's error or from the scheduler; empty if unknown."""
    log: str = ""
    """Path of the run's log, else of its job's log; empty if unknown."""
    attempts: int = 0
    """Number of attempts; not counted for finished runs."""

    @property
    def fraction(self) -> float:
        """Fraction of its training that is done."""
        return min(1.0, self.step / self.steps) if self.step and self.steps else 0.0


@dataclass(frozen=True)
class Snapshot:
    """The runs of a store, sorted by task, seed and optimizer, and the seconds until all are done."""

    runs: tuple[RunStatus, ...]
    damaged: tuple[str, ...]
    """An error line for each run that could not be read."""
    left_s: float | None
    """Seconds at `side_by_side` runs at a time; None if no run is running or the time of one is unknown."""
    side_by_side: int
    """Number of concurrent runs: worker places in the scheduler's running jobs, and local running runs."""
    forecast: Forecast
    silent: str = ""
    """An error line if the scheduler does not answer; its previous answer, if any, is shown."""

    def having(self, status: str) -> list[RunStatus]:
        """Return the runs with this status."""
        return [run for run in self.runs if run.status == status]

    @property
    def in_queue(self) -> frozenset[Placed]:
        """The scheduler's pending and running jobs that contain an unfinished run."""
        placed = {run.placed for run in self.runs if run.placed and run.status not in FINAL}
        return frozenset(job for job in placed if job.state != "left")


def side_by_side_of(seen: Iterable[RunStatus]) -> int:
    """Count the concurrent runs: worker places in the scheduler's running jobs, and local running runs."""
    jobs, others = set(), 0
    for run in seen:
        if run.placed is not None and run.placed.state == "running":
            jobs.add(run.placed)
        elif run.status == "running":
            others += 1
    return others + sum(job.workers for job in jobs)


def left_of(seen: Iterable[RunStatus], forecast: Forecast, side_by_side: int) -> float | None:
    """Return the seconds until all are done: total / `side_by_side`, at least the longest running run."""
    if not side_by_side:
        return None
    guesses: dict[tuple[Any, ...], Guess | None] = {}
    running: list[float] = []
    waiting: list[float] = []
    for run in seen:
        stopped = run.status in ("error", "lost", "cancelled") or (run.status == "interrupted" and run.placed)
        if run.status in FINAL or stopped:
            continue
        if run.status == "running" and run.row.left_s is not None:
            running.append(run.row.left_s)
            continue
        key = _cost_key(run)
        if key not in guesses:
            guesses[key] = forecast.seconds(run.spec)
        guess = guesses[key]
        if guess is None:
            return None
        rest = guess.seconds * (1.0 - run.fraction)
        (running if run.status == "running" else waiting).append(rest)
    if not running:
        return None
    return max(max(running), math.fsum(running + waiting) / side_by_side)


def _cost_key(run: RunStatus) -> tuple[Any, ...]:
    """Return a key, cheap to compute, that runs of the same cost share: thousands differ only by seed."""
    spec = run.spec
    machine = spec.precision, spec.device, spec.threads, spec.compile, spec.ranks
    entries = [(entry.name, repr(entry.params)) for entry in (spec.task, spec.optimizer)]
    return (*entries, spec.data, spec.epochs, machine)
