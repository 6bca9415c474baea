"""What one look at a store shows: its runs, and when all of them will be done."""

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
"""What a run can be. preempted: begun, and waiting in the scheduler's queue to go on; lost: handed to the
scheduler, which does not have it any more, and nobody knows of an end; cancelled: taken back from it."""

FINAL = ("done", "failed")
"""Those with a record."""


@dataclass(frozen=True)
class RunStatus:
    """A run as it was at a look; None is what the files do not tell."""

    run_id: str
    status: str
    """One of `WORDS`."""
    spec: RunSpec
    row: RunRow
    step: int | None = None
    steps: int | None = None
    failure: str = ""
    """How it failed, where its record says so."""
    placed: Placed | None = None
    """Its place with the scheduler; None where it was never handed to one, or is done."""
    reason: str = ""
    """Why it is where it is, as far as somebody said so."""
    log: str = ""
    """Path of what it printed, or else of what its job prints."""
    attempts: int = 0
    """How often it was begun; of finished runs it is not counted."""

    @property
    def fraction(self) -> float:
        """How much of its training is done."""
        return min(1.0, self.step / self.steps) if self.step and self.steps else 0.0


@dataclass(frozen=True)
class Snapshot:
    """The runs of a store in the order of their names, and the seconds until all of them are done."""

    runs: tuple[RunStatus, ...]
    damaged: tuple[str, ...]
    """A line for each run that could not be read."""
    left_s: float | None
    """At `side_by_side`; None where none runs, or one is of unknown length."""
    side_by_side: int
    """How many runs go on at a time: those at work, and what the scheduler's running jobs have room for."""
    forecast: Forecast
    silent: str = ""
    """One line if the scheduler does not answer: what it said before is shown, if anything."""

    def having(self, status: str) -> list[RunStatus]:
        """Return the runs of that status."""
        return [run for run in self.runs if run.status == status]

    @property
    def in_queue(self) -> frozenset[Placed]:
        """The scheduler's jobs that wait or run and hold a run to do."""
        placed = {run.placed for run in self.runs if run.placed and run.status not in FINAL}
        return frozenset(job for job in placed if job.state != "left")


def side_by_side_of(seen: Iterable[RunStatus]) -> int:
    """Count the runs that go on at a time: places in the scheduler's running jobs, and runs beside them."""
    jobs, others = set(), 0
    for run in seen:
        if run.placed is not None and run.placed.state == "running":
            jobs.add(run.placed)
        elif run.status == "running":
            others += 1
    return others + sum(job.workers for job in jobs)


def left_of(seen: Iterable[RunStatus], forecast: Forecast, side_by_side: int) -> float | None:
    """Share what is left between the runs that go on at a time; none ends before its longest run does."""
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
    """What runs of the same cost have in common, quickly: thousands differ by their seed only."""
    spec = run.spec
    machine = spec.precision, spec.device, spec.threads, spec.compile, spec.ranks
    entries = [(entry.name, repr(entry.params)) for entry in (spec.task, spec.optimizer)]
    return (*entries, spec.data, spec.epochs, machine)
