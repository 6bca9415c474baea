"""SLURM's signals: a warning (SIGUSR2) some time before a task's end, a last one (SIGTERM) seconds before it.

The warning comes before a time limit or a preemption, after which the task may go on in a start of its own.
The last call comes with whatever ends a task, a cancellation among them.
"""

from __future__ import annotations

import signal
import time

_LAST = (signal.SIGTERM, signal.SIGINT)
_TURN_S = 0.2


class SignalState:
    """Notes the signals that this process gets, from its making on, instead of dying of them."""

    def __init__(self) -> None:
        self.last = False
        """Whether the last call came."""
        self._warned_at: float | None = None
        signal.signal(signal.SIGUSR2, self._warn)
        for number in _LAST:
            signal.signal(number, self._end)

    def _warn(self, *_: object) -> None:
        if self._warned_at is None:
            self._warned_at = time.monotonic()

    def _end(self, *_: object) -> None:
        self.last = True

    @property
    def warned_s(self) -> float | None:
        """Seconds since the warning; None where none came."""
        return None if self._warned_at is None else time.monotonic() - self._warned_at

    @property
    def any(self) -> bool:
        """Whether the task is to end."""
        return self.last or self._warned_at is not None

    def sleep(self, seconds: float) -> None:
        """Sleep so long, or until a signal."""
        until = time.monotonic() + seconds
        while not self.any and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _TURN_S))

    @staticmethod
    def close() -> None:
        """Ignore signals: one would kill an interpreter that shuts down, and its exit code with it."""
        for number in (signal.SIGUSR2, *_LAST):
            signal.signal(number, signal.SIG_IGN)
