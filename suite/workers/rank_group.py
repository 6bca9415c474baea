"""A rank group: the worker processes of one run at a time, rank 0 and the ranks that follow it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

from suite.workers.process import Worker

PATIENCE_S = 20.0
"""Seconds that a rank has to detect the loss of another rank; then it is killed."""

_SOON_S = 3.0
"""Seconds that ranks 1 to n-1 have to end a run that rank 0 ended."""

_UNAWARE = "its processes did not notice in time that one of them was lost"


class RankGroup:
    """The worker processes of one slot of a pool, by rank. Any of them may be missing."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.deferred_end: dict[str, Any] | None = None
        """Rank 0's `ended` event after the loss of a rank, held back until all ranks have ended."""
        self._failure: dict[str, str] = {}
        self._rendezvous: Mapping[str, Any] | None = None
        self._trained = False
        self._deadline: float | None = None

    @property
    def run_id(self) -> str | None:
        """The run that rank 0 executes."""
        coordinator = self.workers.get(0)
        return coordinator.run_id if coordinator is not None else None

    @property
    def busy(self) -> bool:
        """Whether a rank executes a run, or the end of a run is not reported yet."""
        return self.deferred_end is not None or any(self._working())

    def start(self, run_id: str, message: Mapping[str, Any]) -> None:
        """Give rank 0 a run."""
        self._failure, self._rendezvous, self._deadline, self._trained = {}, None, None, False
        self.workers[0].give(run_id, message)

    def rendezvous(self, message: Mapping[str, Any]) -> None:
        """Send the address of rank 0 to all other ranks, now or as soon as they connect."""
        self._rendezvous = message
        for rank in self.workers:
            self.join(rank)

    def join(self, rank: int) -> None:
        """Send the address of rank 0 to one rank, if rank 0 is at a rendezvous."""
        if rank and self._rendezvous is not None and self.run_id is not None:
            self.workers[rank].give(self.run_id, {**self._rendezvous, "rank": rank})

    def rank_lost(self, rank: int, outcome: str, reason: str) -> None:
        """Record that a rank left before the end of its run, and set the deadline for the others.

        The first lost rank gives the run's reason. After the last step only rank 0 is needed.
        """
        if self._trained:
            return
        if self.run_id or self.deferred_end:
            self._failure = self._failure or {"outcome": outcome, "message": f"rank {rank}: {reason}"}
        self.give_up()

    def give_up(self) -> None:
        """Abandon the run after the loss of a rank: a worker that connects from now on gets the next run."""
        self._rendezvous = None
        self._end_within(PATIENCE_S)

    def coordinator_ended(self) -> dict[str, str]:
        """Set the deadline for the other ranks after rank 0's run; return the failure of a rank, if any."""
        self._rendezvous = None
        self._end_within(_SOON_S)
        return self._failure

    def training_ended(self) -> None:
        """Record that all steps are done: rank 0 alone executes the rest of the run."""
        self._rendezvous, self._trained = None, True

    def take_deferred_end(self) -> dict[str, Any] | None:
        """Return the deferred `ended` event with the reason of the loss, once, when all ranks have ended."""
        if self.deferred_end is None or any(self._working()):
            return None
        event, self.deferred_end = self.deferred_end, None
        return event | self._failure

    def _end_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)

    def kill_stuck(self) -> None:
        """Kill the ranks that still work after the deadline."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._deadline = None
            if self.run_id:
                self._failure = self._failure or {"outcome": "lost", "message": _UNAWARE}
            for worker in self._working():
                worker.signal(signal.SIGKILL)

    def _working(self) -> Iterator[Worker]:
        return (worker for worker in self.workers.values() if worker.run_id is not None)

    def stop(self, *, kill: bool) -> None:
        """Make rank 0 save and stop, and with it the other ranks; or kill all of them."""
        for rank, worker in self.workers.items():
            if rank == 0 or kill:
                worker.release()
                worker.signal(signal.SIGKILL if kill else signal.SIGTERM)
