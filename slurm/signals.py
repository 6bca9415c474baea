"""SLURM's signals: a warning (SIGUSR2) minutes before a task ends, a last call (SIGTERM) seconds before.

The warning precedes a time limit or a preemption, after which the task may be requeued. The last call
precedes every end of a task, including a cancellation.
"""

from __future__ import annotations

import signal
import time

_LAST = (signal.SIGTERM, signal.SIGINT)
_TURN_S = 0.2


class SignalState:
    """Installs handlers that record the signals of this process instead of ending it."""

    def __init__(self) -> None:
        self.last = False
        """Whether the last call arrived."""
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
        """Seconds since the warning; None before it."""
        return None if self._warned_at is None else time.monotonic() - self._warned_at

    @property
    def any(self) -> bool:
        """Whether the task is to end."""
        return self.last or self._warned_at is not None

    def sleep(self, seconds: float) -> None:
        """Sleep for this time or until a signal arrives."""
        until = time.monotonic() + seconds
        while not self.any and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _TURN_S))

    @staticmethod
    def close() -> None:
        """Ignore further signals, which could kill the interpreter at shutdown and change its exit code."""
        for number in (signal.SIGUSR2, *_LAST):
            signal.signal(number, signal.SIG_IGN)
