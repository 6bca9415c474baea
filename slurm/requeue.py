"""Requeues a task after SLURM's warning, unless repeated starts make no progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from slurm.client import Silent, ask
from suite.errors import SteppeError
from suite.files import write_whole
from suite.store.folders import RunFolder
from suite.workers.signals import held

IDLE_STARTS = 2
"""Number of full-length starts without progress after which a task is not requeued again."""

_USED_UP = 0.8
_EARLY_S = 60.0
"""A start counts as full-length after this share of its time minus these seconds: part of the time passes
before this process begins, and SLURM checks limits once a minute and may warn that much early."""

_PAUSES_S = (1.0, 2.0, 4.0)
_ANSWER_S = 10.0

_Progress = frozenset[tuple[Path, int]]


class Requeue:
    """Requests one requeue of this task from SLURM, and counts starts without progress.

    Construct it when the start begins. A start that ends early was preempted and is not counted, because its
    lack of progress does not predict that of the next start.

    Args:
        job: SLURM's id of the array task.
        note: file that keeps the count across starts.
        usable_s: seconds of a start before SLURM's warning of the time limit; 0: every start counts.
        clock: monotonic clock, for tests.

    """

    def __init__(
        self, job: str, note: Path, usable_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.decided = False
        """Whether the requeue was requested or given up."""
        self.hopeless = False
        """Whether the requeue was given up for lack of progress."""
        self._job, self._note = job, note
        self._clock, self._full_at = clock, clock() + _USED_UP * usable_s - _EARLY_S
        self._begun: dict[RunFolder, _Progress] = {}

    def begun(self, run: RunFolder) -> None:
        """Store the progress of a run that starts now."""
        self._begun.setdefault(run, _progress(run))

    def request(self) -> str:
        """Requeue the task if a run made progress; return the outcome in words for the log."""
        self.decided = True
        progressed = any(_progress(run) - before for run, before in self._begun.items())
        idle = 0 if progressed else self._idle() + (self._clock() >= self._full_at)
        if idle >= IDLE_STARTS:
            self.hopeless = True
            return f"not requeued: {idle} starts brought no run further before their time limit"
        try:
            if idle or self._note.exists():  # written first, as the request may end this process
                write_whole(self._note, str(idle).encode())
            self._ask()
        except SteppeError as error:
            return f"not requeued by itself ({error}); unless somebody else did: `steppe retry`"
        return "requeued"

    def _ask(self) -> None:
        """Retry while SLURM does not answer: many tasks may meet their limit at once and overload it."""
        unanswered = False
        for pause_s in (*_PAUSES_S, None):
            try:
                with held():  # the signals of this requeue must not kill scontrol
                    ask("scontrol", "requeue", self._job, timeout_s=_ANSWER_S)
                return
            except Silent:
                if pause_s is None:
                    raise
                unanswered = True
                time.sleep(pause_s)
            except SteppeError:
                if not unanswered:
                    raise
                return  # refused because the unanswered request took effect

    def _idle(self) -> int:
        try:
            return int(self._note.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0


def _progress(run: RunFolder) -> _Progress:
    """Return path and modification time of each checkpoint and of the record of a run."""
    files = set()
    for path in (*run.path.glob("attempts/*/checkpoint.pt"), run.path / "result.json"):
        with contextlib.suppress(OSError):  # missing, or removed just now
            files.add((path, path.stat().st_mtime_ns))
    return frozenset(files)
