"""The worker processes of one run at a time: rank 0, which is given the run, and those that follow it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

from suite.workers.process import Worker

PATIENCE_S = 20.0
"""Seconds that a process has to notice that another one of its run is gone; then it is killed."""

_SOON_S = 3.0
"""Seconds that the others have to end a run that rank 0 ended."""

_UNAWARE = "its processes did not notice in time that one of them was lost"


class RankGroup:
    """The processes of one slot of a pool, by rank; each may be missing."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.parting: dict[str, Any] | None = None
        """How rank 0's run ended, if it did as another process was lost: until they all tell why."""
        self._failure: dict[str, str] = {}
        self._call: Mapping[str, Any] | None = None
        self._trained = False
        self._until: float | None = None

    @property
    def run_id(self) -> str | None:
        """The run that rank 0 has in hand."""
        lead = self.workers.get(0)
        return lead.run_id if lead is not None else None

    @property
    def busy(self) -> bool:
        """Whether one of them has a run in hand, or still has to tell of it."""
        return self.parting is not None or self._working_at_all()

    def _working_at_all(self) -> bool:
        return next(self._working(), None) is not None

    def start(self, run_id: str, message: Mapping[str, Any]) -> None:
        """Give rank 0 a run."""
        self._failure, self._call, self._until, self._trained = {}, None, None, False
        self.workers[0].give(run_id, message)

    def meet(self, message: Mapping[str, Any]) -> None:
        """Call the others, who are there or will be, to the run that rank 0 has in hand."""
        self._call = message
        for rank in self.workers:
            self.call(rank)

    def call(self, rank: int) -> None:
        """Call one of them, unless there is nothing to be called to."""
        if rank and self._call is not None and self.run_id is not None:
            self.workers[rank].give(self.run_id, {**self._call, "rank": rank})

    def lost(self, rank: int, outcome: str, reason: str) -> None:
        """Note that a process left before its run was over; the others have to notice in time.

        The first that left says why the run ends. Once one of them has taken all steps, they are not needed.
        """
        if self._trained:
            return
        if self.run_id or self.parting:
            self._failure = self._failure or {"outcome": outcome, "message": f"rank {rank}: {reason}"}
        self.hurry()

    def over(self) -> dict[str, str]:
        """Rank 0's run is over: return what befell the others in it, and see that they end it, too."""
        self._call = None
        self._within(_SOON_S)
        return self._failure

    def trained(self) -> None:
        """All steps are taken: rank 0 is alone with the rest of the run."""
        self._call, self._trained = None, True

    def told(self) -> dict[str, Any] | None:
        """Return, once, how the run ended that was given up for the loss of a process, and why."""
        if self.parting is None or self._working_at_all():
            return None
        event, self.parting = self.parting, None
        return event | self._failure

    def hurry(self) -> None:
        """A process is lost, so the run is given up: whoever comes now comes for the next one."""
        self._call = None
        self._within(PATIENCE_S)

    def _within(self, seconds: float) -> None:
        then = time.monotonic() + seconds
        self._until = then if self._until is None else min(then, self._until)

    def kill_stuck(self) -> None:
        """End by force who did not notice in time that the run is over, or that another process is gone."""
        if self._until is not None and time.monotonic() > self._until:
            self._until = None
            if self.run_id:
                self._failure = self._failure or {"outcome": "lost", "message": _UNAWARE}
            for worker in self._working():
                worker.signal(signal.SIGKILL)

    def _working(self) -> Iterator[Worker]:
        return (worker for worker in self.workers.values() if worker.run_id is not None)

    def stop(self, *, kill: bool) -> None:
        """Let rank 0 save and stop, and the others with it; or kill all of them."""
        for rank, worker in self.workers.items():
            if rank == 0 or kill:
                worker.release()
                worker.signal(signal.SIGKILL if kill else signal.SIGTERM)
