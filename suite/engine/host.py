"""What the process that hosts a run gives it. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHECKPOINT_S = 60.0
"""Seconds between checkpoints on the timer, unless the host says otherwise."""

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Host:
    """When a run stops, where it reports, how often it saves, and who asks for it."""

    stop: Callable[[], bool] = lambda: False
    """Whether to save and stop; called at every step."""
    progress: Progress = lambda _: None
    """Takes a row of progress, twice a second at most and at every change of state."""
    checkpoint_s: float = CHECKPOINT_S
    job: str = ""
    """The scheduler's name of the job; empty outside one."""
    restart_count: int = 0
    """How often the scheduler restarted that job."""
    address: str = "127.0.0.1"
    """At which the other ranks of the run reach this process."""
    rendezvous: Callable[[int], None] = lambda _: None
    """Takes the port at which the other ranks are awaited (see `suite.engine.worker_rank`)."""
