"""Signals that request an orderly stop, and how a process does not lose one while it starts.

SIGTERM is a request of a user or the last warning of a scheduler; SIGUSR2 is a scheduler's warning of a time
limit or a preemption. Schedulers send both to every process of a job, and SIGUSR2 kills a process that has no
handler yet. A process that is started within `held` has the signals blocked until it calls `release`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator

SAVE = (signal.SIGTERM, signal.SIGUSR2)
"""Signals on which a run saves and stops, however often they arrive."""

_HELD = (signal.SIGINT, signal.SIGHUP, *SAVE)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Block these signals within the context, and in the processes started there until they `release`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Unblock the signals that were blocked when this process started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


@contextlib.contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Count stop requests instead of being killed by them; yield the function that returns the count.

    Each Ctrl-C counts as one; all signals of `SAVE` together count as one, because schedulers repeat them.
    Outside the main thread, which alone can set handlers, the count stays 0.
    """
    seen: Counter[int] = Counter()

    def note(number: int, _: object) -> None:
        seen[number] += 1

    def count() -> int:
        return seen[signal.SIGINT] + any(seen[number] for number in SAVE)

    if threading.current_thread() is not threading.main_thread():
        yield count
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *SAVE)}
    try:
        yield count
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
