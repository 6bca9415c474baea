"""Asks the scheduler now and then: not at every look, and without holding anybody up but the first.

A scheduler is shared by all its users, and asking it every second is what brings it down. One that does not
answer takes its time over that, so that later questions are put by a thread of their own.
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
"""Seconds from one answer to the next question."""


@dataclass(frozen=True)
class QueueState:
    """What the scheduler said last."""

    placed: Mapping[str, Placed]
    """By run id; nothing while it never answered, or where nothing was ever handed to one."""
    silent: str = ""
    """One line that says why there is no newer answer; empty where all is well."""


def _look(root: Path) -> Mapping[str, Placed] | None:
    return scheduler.look(root, patient=True)


def glance(root: Path) -> Mapping[str, Placed] | None:
    """Ask for who knows enough without an answer, and does not wait long for it."""
    return scheduler.look(root, patient=True, wait_s=scheduler.GLANCE_S)


class QueuePoller:
    """Gives the newest answer about the store at `root` and sees to it that there is a next one."""

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
        """Return what is known; the first call waits for the scheduler."""
        if self._due is None:
            self._renew()
        elif self._clock() >= self._due and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._renew, name="steppe-asker", daemon=True)
            self._thread.start()
        return self._answer

    def _renew(self) -> None:
        try:
            self._answer = QueueState(self._ask(self._root) or {})
        except (SteppeError, OSError) as error:  # OSError: the store is on a file system that has its moments
            self._answer = replace(self._answer, silent=str(error))
        finally:
            self._due = self._clock() + self._every_s
