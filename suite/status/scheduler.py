"""What a scheduler knows of the runs in a store. The suite asks by name and imports no dispatcher.

A dispatcher is a top-level package that keeps a folder of its own name in the store and defines

    state.look(root: Path, *, patient: bool, wait_s: float) -> dict[str, Placed]

by run id, for every run that was ever handed to it; SteppeError where the scheduler does not answer.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

DISPATCHERS = ("slurm",)

STATES = ("pending", "running", "left")
"""left: the job is not in the queue any more, whatever became of the run."""

WAIT_S = 60.0
"""How long an answer may take."""

GLANCE_S = 10.0
"""The same for who goes on without one."""


@dataclass(frozen=True)
class Placed:
    """The newest place of a run in a scheduler's queue."""

    state: str
    """One of `STATES`."""
    submission: str
    job: str
    """The scheduler's name of the job (of an array: of the task); empty where it is not known any more."""
    reason: str = ""
    """Why it waits, or how it left the queue, in the scheduler's words; empty where that is not known."""
    log: str = ""
    """Path of what the job prints; empty where it is not known. There is no such file before it starts."""
    node: str = ""
    """Where it runs."""
    workers: int = 1
    """Runs side by side in the job."""
    cancelled: bool = False
    """Whether it left the queue because somebody took it back."""
    hint: str = ""
    """The command that helps where it waits for somebody, not for its turn."""


def look(root: Path, *, patient: bool = False, wait_s: float = WAIT_S) -> dict[str, Placed] | None:
    """Ask about the runs of the store at `root`; None where none was ever handed to a scheduler.

    `patient` is who only wants to know: what somebody else is about to hand over is pending then. Who holds
    the lock on that himself may not be, as what the scheduler does not have is for him to hand over.
    After `wait_s` a scheduler that does not answer counts as silent.
    """
    placed: dict[str, Placed] = {}
    asked = False
    for name in DISPATCHERS:
        if (root / name).is_dir():
            asked = True
            dispatcher = importlib.import_module(f"{name}.state")
            placed.update(dispatcher.look(root, patient=patient, wait_s=wait_s))
    return placed if asked else None
