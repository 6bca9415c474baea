"""A task that was warned goes on in a start of its own, as long as that leads anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from slurm.client import Silent, ask
from suite.errors import SteppeError
from suite.files import write_whole
from suite.store.folders import RunFolder
from suite.workers.signals import held

IDLE_STARTS = 2
"""After so many starts that used up their time and brought no run further, a task is not requeued again."""

_USED_UP = 0.8
_EARLY_S = 60.0
"""A start has used up its time after this share of it, less these seconds: some of it went by before this
process began, and SLURM, which looks at its limits once a minute, warns that much early."""

_PAUSES_S = (1.0, 2.0, 4.0)
_ANSWER_S = 10.0

_Marks = frozenset[tuple[Path, int]]


class Requeue:
    """Asks SLURM, once, to start this task again, and counts the starts that led nowhere.

    Made as the start begins. One that ends before its time was preempted: that it led nowhere tells nothing
    of the next, and it is not counted.

    Args:
        job: SLURM's name of the task.
        note: file that keeps the count from one start to the next.
        usable_s: seconds that a start has until SLURM warns of its time limit; 0: every start counts.
        clock: for tests.

    """

    def __init__(
        self, job: str, note: Path, usable_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.decided = False
        """Whether it was asked for, or given up."""
        self.hopeless = False
        """Whether it was given up, as it would lead nowhere."""
        self._job, self._note = job, note
        self._clock, self._full_at = clock, clock() + _USED_UP * usable_s - _EARLY_S
        self._begun: dict[RunFolder, _Marks] = {}

    def begun(self, run: RunFolder) -> None:
        """Remember where a run stands that starts now."""
        self._begun.setdefault(run, _marks(run))

    def request(self) -> str:
        """Requeue the task if its runs got on; return what came of it, in words for the log."""
        self.decided = True
        further = any(_marks(run) - before for run, before in self._begun.items())
        idle = 0 if further else self._idle() + (self._clock() >= self._full_at)
        if idle >= IDLE_STARTS:
            self.hopeless = True
            return f"not requeued: {idle} starts brought no run further before their time limit"
        try:
            if idle or self._note.exists():  # before the request: it may end this process
                write_whole(self._note, str(idle).encode())
            self._ask()
        except SteppeError as error:
            return f"not requeued by itself ({error}); unless somebody else did: `steppe retry`"
        return "requeued"

    def _ask(self) -> None:
        """Ask until there is an answer: tasks that meet a limit together may be too many at a time."""
        unheard = False
        for pause_s in (*_PAUSES_S, None):
            try:
                with held():  # else the signals of the very requeue might strike the one who asks
                    ask("scontrol", "requeue", self._job, timeout_s=_ANSWER_S)
                return
            except Silent:
                if pause_s is None:
                    raise
                unheard = True
                time.sleep(pause_s)
            except SteppeError:
                if not unheard:
                    raise
                return  # it is refused as it was done at the time before

    def _idle(self) -> int:
        try:
            return int(self._note.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0


def _marks(run: RunFolder) -> _Marks:
    """What a later start can build on: the run's checkpoints, and its record."""
    found = set()
    for path in (*run.path.glob("attempts/*/checkpoint.pt"), run.path / "result.json"):
        try:
            found.add((path, path.stat().st_mtime_ns))
        except OSError:  # removed just now, or not there
            continue
    return frozenset(found)
