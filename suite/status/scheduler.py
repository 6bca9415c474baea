"""Scheduler jobs of the runs in a store. The suite loads dispatchers by name and imports none.

A dispatcher is a top-level package that keeps a folder of the same name in the store and defines

    state.look(root: Path, *, patient: bool, wait_s: float) -> dict[str, Placed]

It returns every submitted run by run id, and raises SteppeError if the scheduler does not answer.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

DISPATCHERS = ("slurm",)

STATES = ("pending", "running", "left")
"""left: the job is no longer in the queue, for whatever reason."""

WAIT_S = 60.0
"""Seconds to wait for an answer."""

GLANCE_S = 10.0
"""Seconds to wait for an answer that the caller can do without."""


@dataclass(frozen=True)
class Placed:
    """The newest job of a run, and its state in the scheduler's queue."""

    state: str
    """One of `STATES`."""
    submission: str
    job: str
    """The scheduler's id of the job (of an array: of the task); empty if it is no longer known."""
    reason: str = ""
    """Why the job waits, or how it left the queue, in the scheduler's words; empty if unknown."""
    log: str = ""
    """Path of the job's log; empty if unknown. The file does not exist before the job starts."""
    node: str = ""
    """Node on which the job runs."""
    workers: int = 1
    """Number of concurrent runs in the job."""
    cancelled: bool = False
    """Whether a user cancelled the job."""
    hint: str = ""
    """Command to give if the job waits for a user instead of resources."""


def look(root: Path, *, patient: bool = False, wait_s: float = WAIT_S) -> dict[str, Placed] | None:
    """Return the jobs of the store at `root`, by run id; None if no run was ever submitted.

    `patient`: runs that another process is submitting count as pending. The process that holds the lock
    must pass False, as it has to submit the runs that the scheduler lacks. Raises SteppeError if the
    scheduler does not answer within `wait_s` seconds.
    """
    placed: dict[str, Placed] = {}
    asked = False
    for name in DISPATCHERS:
        if (root / name).is_dir():
            asked = True
            dispatcher = importlib.import_module(f"{name}.state")
            placed.update(dispatcher.look(root, patient=patient, wait_s=wait_s))
    return placed if asked else None
