"""Settings and callbacks that a run gets from the process that hosts it. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHECKPOINT_S = 60.0
"""Seconds between periodic checkpoints, unless the host sets another interval."""

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Host:
    """Stop request, progress callback, checkpoint interval, scheduler job and rendezvous of a run."""

    stop: Callable[[], bool] = lambda: False
    """Returns whether to checkpoint and stop; called at every step."""
    progress: Progress = lambda _: None
    """Receives a row of progress, at most twice a second and at every change of state."""
    checkpoint_s: float = CHECKPOINT_S
    job: str = ""
    """The scheduler's name of the job; empty outside a job."""
    restart_count: int = 0
    """Number of restarts of that job by the scheduler."""
    address: str = "127.0.0.1"
    """Address at which the other ranks of the run reach this process."""
    rendezvous: Callable[[int], None] = lambda _: None
    """Receives the port at which rank 0 awaits the other ranks (see `suite.engine.worker_rank`)."""
