"""The detached process that mirrors one sweep: `python -m suite.track.sidecar`, one a sweep.

Each line of stdin is a command. At the end of stdin it has what is outstanding written, says its state in
lines on stdout, and ends after `LINGER_S` at the latest. It has a session of its own, so that a Ctrl-C is not
for it, and a low priority. It does not import wandb, which may hang or die: a process below does.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from typing import IO

import msgspec

from suite.store.folders import Store
from suite.store.lease import latest_lease
from suite.track.mirror_folder import FINISH_S, FOLDER, INIT_S
from suite.track.mode import Target
from suite.track.wandb_process import Child, Command, Report, State, arguments, encode
from suite.workers.pipe import Messages
from suite.workers.signals import release

GATHER_S, GATHER_RUNS = 120.0, 16
"""Offline, so many runs share a process, as importing wandb takes longer than to write them; nobody waits."""

SILENCE_S = INIT_S + FINISH_S + 30.0
"""Seconds that a command may take; after them the mirror process hangs."""

TRIES = 3
"""Failures after which a run, or at the end everything, is left to `steppe wandb sync`."""

LINGER_S = 120.0
"""Seconds after the sweep in which the sidecar finishes; what is left then is for `steppe wandb sync`."""

NICE = 10
_BACK_OFF_S, _LONGEST_BACK_OFF_S = 2.0, 300.0
_AGAIN_S = 2.0
"""Seconds until a run that is followed, or that another process mirrors, has its turn again."""


@dataclass
class _Job:
    """A run to be mirrored."""

    command: Command
    due: float = 0.0
    failures: int = 0


class Supervisor:
    """Gives a mirror process one command at a time; kills it where it hangs, and starts it where it died.

    Args:
        store: the store.
        target: where to.
        log: takes what wandb prints.
        commands: where commands come from besides `take`.

    """

    def __init__(
        self, store: Store, target: Target, log: int | IO[bytes], commands: Messages | None = None
    ) -> None:
        self.problem = ""
        """Why the last failure failed, in one line."""
        self.done: set[str] = set()
        """Runs mirrored."""
        self.lost: set[str] = set()
        """Runs given up."""
        self.closed = False
        """Whether nothing more comes."""
        self._store, self._target, self._log, self._commands = store, target, log, commands
        # wandb's copies of artifacts and its debug logs.
        self._scratch = store.root.resolve() / FOLDER / f".scratch-{os.getpid()}"
        self._jobs: dict[str, _Job] = {}
        self._mirror: Child | None = None
        self._given: Command | None = None  # to the mirror process, which did not report on it yet
        self._given_at = self._not_before = 0.0
        self._failures = 0
        self._gave_up = False

    @property
    def left(self) -> int:
        """Runs that are neither mirrored nor given up."""
        return len(self._jobs)

    @property
    def state(self) -> State:
        """What a sidecar says of it."""
        return State(len(self.done), self.left, len(self.lost), self.problem)

    def take(self, command: Command) -> None:
        """Take up a run, and again, when it ended."""
        job = self._jobs.setdefault(command.run, _Job(command))
        job.command, job.due = command, time.monotonic()

    def close(self) -> None:
        """Nothing more comes: write at once what was gathered."""
        self.closed, self._commands = True, None

    def turn(self, timeout_s: float = 1.0) -> None:
        """Do what is to be done now, then listen for so long."""
        now = time.monotonic()
        if self._given is not None and now - self._given_at > SILENCE_S:
            self._note(Report("failed", f"nothing heard of W&B for {SILENCE_S:.0f} s"))
        if self.closed:
            self._end_orphans()
            self._gave_up |= self._failures >= TRIES
        if self._gave_up:
            self.lost |= self._jobs.keys()
            self._jobs.clear()
            self.kill()
        if self._given is None:
            self._give(now)
        if self._jobs or not self.closed:
            reports = self._mirror.messages if self._mirror is not None else None
            for ready in select.select([x for x in (self._commands, reports) if x], [], [], timeout_s)[0]:
                messages = ready.read()
                for message in messages or ():
                    if ready is reports:
                        self._note(Report(**message))
                    else:
                        self.take(msgspec.convert(message, Command))
                if messages is None and ready is reports:
                    self._note(Report("failed", "wandb's process died"))
                elif messages is None:
                    self.close()

    def _end_orphans(self) -> None:
        """Count the runs of a killed pool as ended; they save and stop at their next step."""
        for run_id, job in self._jobs.items():
            if not job.command.ended:
                lease = latest_lease(self._store.run(run_id).path)
                if lease is None or not lease.alive:
                    self.take(Command(run_id, job.command.labels))

    def _give(self, now: float) -> None:
        """Give the mirror process the command that waits for longest, if any."""
        offline = self._target.mode == "offline"
        due = [job for job in self._jobs.values() if job.due <= now and (job.command.ended or not offline)]
        if not due:
            if offline:
                self.kill()
            return
        job = min(due, key=lambda job: job.due)
        if self._mirror is None:
            gathered = len(due) >= GATHER_RUNS or now - job.due >= GATHER_S or self.closed
            if now < self._not_before or (offline and not gathered):
                return
            env = self._target.environment()
            env |= dict.fromkeys(("WANDB_CACHE_DIR", "WANDB_DATA_DIR"), str(self._scratch))
            self._mirror = Child(
                "mirror", self._store.root, self._target, stderr=self._log, env=env, process_group=0
            )
        self._given, self._given_at = job.command, now
        with contextlib.suppress(OSError):  # it died, as the end of its reports says
            self._mirror.stdin.write(encode(job.command))

    def _note(self, report: Report) -> None:
        """Note what became of the command in hand; a later one for its run is still to be given."""
        given, self._given, now = self._given, None, time.monotonic()
        if given is None:  # it died while it had nothing to do
            self.kill()
            return
        job = self._jobs[given.run]
        self.problem = report.message or self.problem
        if report.outcome == "again":
            job.due = now + _AGAIN_S if job.command is given else job.due
            return
        if report.outcome in ("failed", "hopeless"):
            self.kill()
            self._failures += 1
            self._not_before = now + min(_BACK_OFF_S * 2.0**self._failures, _LONGEST_BACK_OFF_S)
            self._gave_up |= report.outcome == "hopeless"
            job.failures, job.due = job.failures + 1, now  # behind the others, which may fare better
            if job.failures < TRIES:
                return
        if report.outcome in ("done", "nothing"):
            self._failures = 0
            self.lost.discard(given.run)  # what could not be followed could be written in the end
            self.done |= {given.run} if report.outcome == "done" else set()
        else:
            self.lost.add(given.run)
        if job.command is given:
            del self._jobs[given.run]

    def kill(self) -> None:
        """End the mirror process, if there is one; wandb's own process follows it."""
        if self._mirror is not None:
            with self._mirror, contextlib.suppress(ProcessLookupError):
                os.killpg(self._mirror.pid, signal.SIGKILL)
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._mirror, self._given = None, None


def main() -> None:
    """Mirror until stdin ended and nothing is left, or the time after it is over."""
    os.nice(NICE)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler's warning, for the runs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # `steppe wandb sync` mirrors what is missing
    release()
    supervisor = Supervisor(*arguments(), log=2, commands=Messages(sys.stdin))
    said, until = None, math.inf
    try:
        while until == math.inf or (supervisor.left and time.monotonic() < until):
            supervisor.turn()
            if supervisor.closed and supervisor.state != said:
                said, until = supervisor.state, min(until, time.monotonic() + LINGER_S)
                with contextlib.suppress(OSError):  # nobody waits any more
                    os.write(1, encode(said))
    finally:
        supervisor.kill()


if __name__ == "__main__":
    main()
