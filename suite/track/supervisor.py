"""Keeps one mirror process at work: kills it where it hangs, starts it where it died, gives up in time."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from suite.store.claim import latest_pulse
from suite.store.store import Store
from suite.track.content import shorten
from suite.track.mode import Target
from suite.track.run import FINISH_S, INIT_S
from suite.track.state import FOLDER

GATHER_S, GATHER_RUNS = 120.0, 16
"""Offline, so many runs share a process, as importing wandb takes longer than to write them; nobody waits."""

BATCH = 32
"""Runs that a mirror process has in hand at most."""

SILENCE_S = INIT_S + FINISH_S + 30.0
"""Seconds without a sign after which the mirror process hangs."""

TRIES = 3
"""Failures after which a run, or at the end everything, is left to `steppe wandb sync`."""

_BACK_OFF_S, _LONGEST_BACK_OFF_S = 2.0, 300.0
_BUSY_S = 3.0


@dataclass
class _Job:
    """A run to be mirrored."""

    order: dict[str, Any]
    """What the mirror process is told of it."""
    since: float
    failures: int = 0
    not_before: float = 0.0
    given: dict[str, Any] | None = None
    """What the present mirror process was told."""


class Supervisor:
    """Mirrors the runs that it is told of; `turn` it until nothing is left.

    Args:
        store: the store.
        target: where to.
        log: descriptor that takes what wandb prints.

    """

    def __init__(self, store: Store, target: Target, log: int) -> None:
        self.problem = ""
        """Why the last failure failed, in one line."""
        self.gave_up = False
        """Whether nothing more is tried."""
        self.done: set[str] = set()
        """Runs mirrored."""
        self.lost: set[str] = set()
        """Runs given up."""
        self.selector = selectors.DefaultSelector()
        """What `turn` listens to: the data of a key is called when its file has something to read."""
        self._store, self._target, self._log = store, target, log
        self._scratch = store.root.resolve() / FOLDER / f".scratch-{os.getpid()}"
        self._jobs: dict[str, _Job] = {}
        self._closing = False
        self._mirror: subprocess.Popen[bytes] | None = None
        self._rest, self._at = b"", ""
        self._unwritten = b""  # orders that the mirror process's pipe did not take yet
        self._heard = self._not_before = 0.0
        self._failures = 0

    @property
    def left(self) -> int:
        """Runs that are neither mirrored nor given up."""
        return len(self._jobs)

    def take(self, order: Mapping[str, Any]) -> None:
        """Take up a run: {"run", "caption", "ended"}, or {"run", "table"}; again, when it ended."""
        now = time.monotonic()
        job = self._jobs.setdefault(str(order["run"]), _Job(dict(order), now))
        job.order, job.since = dict(order), now

    def close(self) -> None:
        """Nothing more comes: write at once what was gathered."""
        self._closing = True

    def turn(self, timeout_s: float) -> None:
        """Do what is to be done now, then listen for so long."""
        now = time.monotonic()
        if self._mirror is not None and now - self._heard > SILENCE_S:
            self._fail(self._at, f"nothing heard of W&B for {SILENCE_S:.0f} s")
            self.kill()
        if self._closing:
            self._end_orphans()
            self.gave_up |= self._failures >= TRIES
        if self.gave_up:
            self.lost |= self._jobs.keys()
            self._jobs.clear()
            self.kill()
        self._hand_out(now)
        if self._jobs or not self._closing:
            for key, _ in self.selector.select(timeout_s):
                key.data()

    def _end_orphans(self) -> None:
        """Count runs as ended whose pool was killed; they save and stop at their next step."""
        for run_id, job in self._jobs.items():
            if not job.order.get("ended", True):
                pulse = latest_pulse(self._store.run(run_id).path)
                if pulse is None or not pulse.alive:
                    job.order = {**job.order, "ended": True}

    def _hand_out(self, now: float) -> None:
        ready = {run_id: job for run_id, job in self._jobs.items() if job.not_before <= now}
        if self._target.mode == "offline":
            ready = {run_id: job for run_id, job in ready.items() if job.order.get("ended", True)}
            if self._mirror is None and not self._gathered(ready, now):
                return
        ready = dict(islice(ready.items(), BATCH))
        if self._mirror is None:
            if not ready or now < self._not_before:
                return
            self._start()
        assert self._mirror is not None
        assert self._mirror.stdin is not None
        if self._mirror.stdin.closed:
            return
        for job in ready.values():
            if job.given != job.order:
                self._unwritten += json.dumps(job.order).encode() + b"\n"
                job.given = job.order
        following = not self._closing or any(not job.order.get("ended", True) for job in ready.values())
        self._write(last=self._target.mode == "offline" or not following)

    def _write(self, *, last: bool) -> None:
        """Write of the orders what the pipe takes now, and the rest at the next turn: nobody waits for it."""
        assert self._mirror is not None
        assert self._mirror.stdin is not None
        with contextlib.suppress(OSError):  # it is full; or it died: the end of its stdout tells
            if self._unwritten:
                self._unwritten = self._unwritten[os.write(self._mirror.stdin.fileno(), self._unwritten) :]
            if last and not self._unwritten:
                self._mirror.stdin.close()

    def _gathered(self, ready: Mapping[str, _Job], now: float) -> bool:
        if not ready or self._closing or len(ready) >= GATHER_RUNS:
            return bool(ready)
        return now - min(job.since for job in ready.values()) >= GATHER_S

    def _start(self) -> None:
        environment = self._target.environment()
        for name in ("CACHE", "DATA"):  # wandb's copies of artifacts and its debug logs
            environment[f"WANDB_{name}_DIR"] = str(self._scratch)
        command = [sys.executable, "-P", "-m", "suite.track.mirror", f"--store={self._store.root}",
                   f"--target={json.dumps(asdict(self._target))}"]  # fmt: skip
        self._mirror = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment,
            process_group=0,
        )  # fmt: skip
        assert self._mirror.stdin is not None
        assert self._mirror.stdout is not None
        os.set_blocking(self._mirror.stdin.fileno(), False)
        self.selector.register(self._mirror.stdout, selectors.EVENT_READ, self._listen)
        self._heard, self._rest, self._unwritten, self._at = time.monotonic(), b"", b"", ""

    def _listen(self) -> None:
        if self._mirror is None:  # killed since it spoke
            return
        assert self._mirror.stdout is not None
        chunk = os.read(self._mirror.stdout.fileno(), 1 << 16)
        if not chunk:
            if any(job.given for job in self._jobs.values()):
                self._fail(self._at, "wandb's process died")
            self.kill()
            return
        self._heard = time.monotonic()
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "at" in message:
                self._at = message["at"]
            else:
                self._note(message)

    def _note(self, message: Mapping[str, Any]) -> None:
        run_id, outcome = message["run"], message["outcome"]
        if outcome in ("done", "nothing"):
            self._jobs.pop(run_id, None)
            self._failures = 0
            self.lost.discard(run_id)  # what could not be followed could be written in the end
            if outcome == "done":
                self.done.add(run_id)
        elif outcome == "lost":
            self._jobs.pop(run_id, None)
            self.lost.add(run_id)
            self.problem = shorten(message["message"], 200)
        elif outcome == "busy":
            job = self._jobs.get(run_id)
            if job is not None:
                job.given, job.not_before = None, time.monotonic() + _BUSY_S
        else:
            self._fail(run_id, self._reason(outcome, shorten(message["message"], 160)))
            self.gave_up |= outcome in ("refused", "missing")
            self._at = ""
            self.kill()

    def _reason(self, outcome: str, said: str) -> str:
        if outcome == "refused":
            return f"key refused by {self._target.server}"
        if outcome == "missing":
            return f"wandb cannot be imported ({said})"
        online = said.startswith(("CommError", "TimeoutError"))
        return f"{self._target.server} did not take a run ({said})" if online else said

    def _fail(self, run_id: str, reason: str) -> None:
        self.problem = reason
        self._failures += 1
        back_off = min(_BACK_OFF_S * 2.0**self._failures, _LONGEST_BACK_OFF_S)
        self._not_before = time.monotonic() + back_off
        job = self._jobs.pop(run_id, None)
        if job is not None:
            job.failures += 1
            if job.failures >= TRIES:
                self.lost.add(run_id)
            else:
                self._jobs[run_id] = job  # behind the others, which may fare better

    def kill(self) -> None:
        """End the mirror process, if there is one; wandb's own process follows it."""
        mirror, self._mirror = self._mirror, None
        if mirror is None:
            return
        assert mirror.stdin is not None
        assert mirror.stdout is not None
        self.selector.unregister(mirror.stdout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(mirror.pid, signal.SIGKILL)
        mirror.wait()
        for pipe in (mirror.stdin, mirror.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        for job in self._jobs.values():
            job.given = None
