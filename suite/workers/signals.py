"""Signals that ask for an orderly end, and how not to lose one while a process starts.

SIGTERM is anybody's request and a scheduler's last call, SIGUSR2 a scheduler's warning (of a time limit or a
preemption). Schedulers send both to every process of a job, and a process that has not yet said what it does
on SIGUSR2 dies of it. Started in a block of `held`, it begins with them held back, until it calls `release`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator

SAVE = (signal.SIGTERM, signal.SIGUSR2)
"""Signals on which a run saves and stops, however often they come."""

_HELD = (signal.SIGINT, signal.SIGHUP, *SAVE)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold these signals back within the block, and in the processes that it starts until they `release`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Take the signals that were held back when this process was started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


@contextlib.contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Count requests to stop instead of dying of them; outside the main thread they are not ours.

    Each Ctrl-C is one; all of `SAVE` together are one more, as schedulers repeat them.
    """
    seen: Counter[int] = Counter()

    def note(number: int, _: object) -> None:
        seen[number] += 1

    def asked() -> int:
        return seen[signal.SIGINT] + any(seen[number] for number in SAVE)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *SAVE)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
