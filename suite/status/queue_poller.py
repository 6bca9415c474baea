"""Queries the scheduler at intervals; only the first query blocks the caller.

A scheduler is shared by all its users, and a query every second would overload it. A query without an answer
blocks until its timeout, so later queries run in a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from suite.errors import SteppeError
from suite.status import scheduler
from suite.status.scheduler import Placed

EVERY_S = 10.0
"""Seconds between an answer and the next query."""


@dataclass(frozen=True)
class QueueState:
    """The scheduler's last answer."""

    placed: Mapping[str, Placed]
    """Jobs by run id; empty before the first answer, and if no run was ever submitted."""
    silent: str = ""
    """Why the last query failed, in one line; empty if it succeeded."""


def _look(root: Path) -> Mapping[str, Placed] | None:
    return scheduler.look(root, patient=True)


def glance(root: Path) -> Mapping[str, Placed] | None:
    """Query the scheduler with a short timeout, for callers that can do without an answer."""
    return scheduler.look(root, patient=True, wait_s=scheduler.GLANCE_S)


class QueuePoller:
    """Returns the last answer about the store at `root`, and starts the next query when it is due."""

    def __init__(
        self,
        root: Path,
        every_s: float = EVERY_S,
        ask: Callable[[Path], Mapping[str, Placed] | None] = _look,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._every_s, self._ask, self._clock = root, every_s, ask, clock
        self._answer = QueueState({})
        self._due: float | None = None
        self._thread: threading.Thread | None = None

    def __call__(self) -> QueueState:
        """Return the last answer; only the first call waits for the scheduler."""
        if self._due is None:
            self._renew()
        elif self._clock() >= self._due and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._renew, name="steppe-asker", daemon=True)
            self._thread.start()
        return self._answer

    def _renew(self) -> None:
        try:
            self._answer = QueueState(self._ask(self._root) or {})
        except (SteppeError, OSError) as error:  # OSError: a network file system may fail
            self._answer = replace(self._answer, silent=str(error))
        finally:
            self._due = self._clock() + self._every_s
