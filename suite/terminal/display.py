"""Display of a running sweep: a live table on a terminal, plain lines on any other stream.

The display is built from the pool's events only. On a terminal, the table shows the running runs and a line
for the sweep, and each run that ends adds a line above it. Elsewhere, each run prints one line per epoch,
without control characters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from suite.terminal.screen import Screen
from suite.terminal.table import RunRow, duration, label, progress

_REFRESH_S = 0.25


@dataclass
class _Run:
    """A running run: its last progress, and the step and time of its first progress in this process."""

    row: RunRow
    started: float
    step: int = 0
    steps: int = 0
    """Steps of the whole run; 0 before its first progress."""
    first_step: int = 0
    first_time: float = 0.0
    told_epoch: int = 0

    def left_s(self, now: float) -> float | None:
        """Return the remaining seconds of training at its pace in this process; None before it has one."""
        if self.step <= self.first_step:
            return None
        return (now - self.first_time) / (self.step - self.first_step) * (self.steps - self.step)


class Display:
    """Shows the events of `suite.workers.pool.run_pool`; a context manager, called with each event.

    Args:
        n_runs: number of runs given to the pool.
        screen: where to show them; standard error by default.
        clock: returns seconds from an arbitrary start.

    """

    def __init__(
        self, n_runs: int, screen: Screen | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen = screen or Screen()
        self._clock = clock
        self._n_runs = n_runs
        self._runs: dict[str, _Run] = {}
        self._ended = dict.fromkeys(("done", "failed", "interrupted", "busy", "error"), 0)
        self._note = ""
        self._shown = clock()
        self._started: float | None = None  # time of the first progress: imports do not count
        self._before = 0.0  # training done before this pace was measured, in runs

    def __enter__(self) -> Display:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._runs.clear()
        self._note = ""
        self._screen.show([], [self._overall()])
        self._screen.__exit__()

    def __call__(self, event: dict[str, Any]) -> None:
        """Process one event of the pool."""
        kind, now = event["event"], self._clock()
        if kind == "started":
            self._runs[event["run_id"]] = _Run(_row(event), now)
        elif kind == "progress":
            self._move(event, now)
        elif kind == "ended":
            self._end(event, now)
        elif kind == "stopping":
            self._note = event["message"]
            self._tell(self._note)
        if kind != "progress" or now - self._shown >= _REFRESH_S:
            self._shown = now
            rows = [replace(run.row, left_s=run.left_s(now)) for run in self._runs.values()]
            self._screen.show(rows, [self._overall()])

    def _tell(self, line: str) -> None:
        """Print a line, unless the screen is live: the table already shows its content."""
        if not self._screen.live:
            self._screen.say(line)

    def _move(self, event: dict[str, Any], now: float) -> None:
        row, step, steps = _row(event), event["step"], event["steps"]
        run = self._runs.setdefault(event["run_id"], _Run(row, now))
        if not run.steps:
            resuming = event["state"] == "resuming"
            run.first_step, run.first_time = step, now
            if resuming or self._started is None:
                self._before += step / steps
            if self._started is None:
                self._started = now
            if resuming:
                run.told_epoch = event["epoch"]
                self._tell(f"{label(row)}  resuming at step {step} of {steps}")
        run.row, run.step, run.steps = row, step, steps
        if event["epoch"] > run.told_epoch:
            run.told_epoch = event["epoch"]
            self._tell(f"{label(row)}  {progress(row)}  {self._overall()}")

    def _end(self, event: dict[str, Any], now: float) -> None:
        run, outcome = self._runs.pop(event["run_id"], None), event["outcome"]
        self._ended[outcome if outcome in self._ended else "error"] += 1
        parts = [label(run.row) if run else event["run_id"], outcome]
        if run and run.steps:
            parts.append(progress(run.row))
        if run:
            parts.append(f"in {duration(now - run.started)}")
        message = f": {event['message']}" if event["message"] else ""
        log = f" (log: {event['log']})" if event["log"] and outcome == "error" else ""
        self._screen.say("  ".join(parts) + message + log)

    def _overall(self) -> str:
        parts = [f"{self._ended['done']} of {self._n_runs} done"]
        parts += [f"{n} {word}" for word, n in self._ended.items() if n and word != "done"]
        if self._runs:
            parts.append(f"{len(self._runs)} running")
        worked = sum(self._ended.values()) + sum(r.step / r.steps for r in self._runs.values() if r.steps)
        gained = worked - self._before
        if self._note:
            parts.append(self._note)
        elif self._runs and self._started is not None and gained > 0.0:
            now = self._clock()
            left = (now - self._started) / gained * (self._n_runs - worked)
            parts.append(f"{duration(max(left, *(r.left_s(now) or 0.0 for r in self._runs.values())))} left")
        return ", ".join(parts)


def _row(event: dict[str, Any]) -> RunRow:
    known = {name: value for name, value in event.items() if name in RunRow.__dataclass_fields__}
    state = event.get("state", "loading")
    return RunRow(**{**known, "state": "saved" if state == "interrupted" else state})
