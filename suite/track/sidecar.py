"""The detached process that mirrors one sweep (`python -m suite.track.sidecar`).

Each line of stdin is a command. After the end of stdin it completes outstanding runs, writes its state to
stdout in lines, and ends after at most `LINGER_S`. It runs in its own session, so Ctrl-C does not reach it,
at low priority. A child process imports wandb, which may hang or die.
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
"""Offline, runs are gathered up to this time and number: importing wandb takes longer than writing runs."""

SILENCE_S = INIT_S + FINISH_S + 30.0
"""Seconds without a report after which the mirror process counts as hung."""

TRIES = 3
"""Failures of a run, or at the end failures in a row, that leave the rest to `steppe wandb sync`."""

LINGER_S = 120.0
"""Seconds after the sweep in which the sidecar may finish; `steppe wandb sync` mirrors the rest."""

NICE = 10
_BACK_OFF_S, _LONGEST_BACK_OFF_S = 2.0, 300.0
_AGAIN_S = 2.0
"""Seconds between two commands for a live or locked run."""


@dataclass
class _Job:
    """A run to mirror."""

    command: Command
    due: float = 0.0
    failures: int = 0


class Supervisor:
    """Sends a mirror process one command at a time; kills it if it hangs and restarts it if it died.

    Args:
        store: the store.
        target: the target.
        log: file for wandb's output.
        commands: source of commands besides `take`.

    """

    def __init__(
        self, store: Store, target: Target, log: int | IO[bytes], commands: Messages | None = None
    ) -> None:
        self.problem = ""
        """One-line reason of the last failure."""
        self.done: set[str] = set()
        """Mirrored runs."""
        self.lost: set[str] = set()
        """Runs given up."""
        self.closed = False
        """Whether no more commands arrive."""
        self._store, self._target, self._log, self._commands = store, target, log, commands
        # wandb's copies of artifacts and its debug logs.
        self._scratch = store.root.resolve() / FOLDER / f".scratch-{os.getpid()}"
        self._jobs: dict[str, _Job] = {}
        self._mirror: Child | None = None
        self._given: Command | None = None  # the command that awaits a report
        self._given_at = self._not_before = 0.0
        self._failures = 0
        self._gave_up = False

    @property
    def left(self) -> int:
        """Number of runs that are neither mirrored nor given up."""
        return len(self._jobs)

    @property
    def state(self) -> State:
        """State for the handle of the sweep."""
        return State(len(self.done), self.left, len(self.lost), self.problem)

    def take(self, command: Command) -> None:
        """Accept a command for a run, which replaces an earlier one."""
        job = self._jobs.setdefault(command.run, _Job(command))
        job.command, job.due = command, time.monotonic()

    def close(self) -> None:
        """Accept no more commands, and write gathered runs at once."""
        self.closed, self._commands = True, None

    def turn(self, timeout_s: float = 1.0) -> None:
        """Do the pending work, then wait for messages for at most this time."""
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
        """Mark the runs of a killed pool as ended, once their lease is no longer alive."""
        for run_id, job in self._jobs.items():
            if not job.command.ended:
                lease = latest_lease(self._store.run(run_id).path)
                if lease is None or not lease.alive:
                    self.take(Command(run_id, job.command.labels))

    def _give(self, now: float) -> None:
        """Send the mirror process the longest-waiting command, if any."""
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
        with contextlib.suppress(OSError):  # it died; the end of its reports shows that
            self._mirror.stdin.write(encode(job.command))

    def _note(self, report: Report) -> None:
        """Process the report on the current command; a newer command for the same run stays pending."""
        given, self._given, now = self._given, None, time.monotonic()
        if given is None:  # the process died while idle
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
            job.failures, job.due = job.failures + 1, now  # other runs come first
            if job.failures < TRIES:
                return
        if report.outcome in ("done", "nothing"):
            self._failures = 0
            self.lost.discard(given.run)  # a run with a failure while live may be complete in the end
            self.done |= {given.run} if report.outcome == "done" else set()
        else:
            self.lost.add(given.run)
        if job.command is given:
            del self._jobs[given.run]

    def kill(self) -> None:
        """Kill the mirror process, if there is one; wandb's service process ends with it."""
        if self._mirror is not None:
            with self._mirror, contextlib.suppress(ProcessLookupError):
                os.killpg(self._mirror.pid, signal.SIGKILL)
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._mirror, self._given = None, None


def main() -> None:
    """Mirror until stdin has ended and either no run is left or `LINGER_S` is over."""
    os.nice(NICE)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler's warning concerns only runs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # `steppe wandb sync` mirrors the rest
    release()
    supervisor = Supervisor(*arguments(), log=2, commands=Messages(sys.stdin))
    reported, until = None, math.inf
    try:
        while until == math.inf or (supervisor.left and time.monotonic() < until):
            supervisor.turn()
            if supervisor.closed and supervisor.state != reported:
                reported, until = supervisor.state, min(until, time.monotonic() + LINGER_S)
                with contextlib.suppress(OSError):  # the sweep's process has ended
                    os.write(1, encode(reported))
    finally:
        supervisor.kill()


if __name__ == "__main__":
    main()
