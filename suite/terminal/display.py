"""What a person sees of a running sweep: one live table on a terminal, plain lines anywhere else.

Everything shown comes from the pool's events. On a terminal the table holds the runs in work and a line for
the sweep, and a run that ends leaves a line above it. Elsewhere there is one line an epoch and run, and
no control characters.
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
    """A run in work: its newest progress, and where and when this process first saw it move."""

    row: RunRow
    started: float
    step: int = 0
    steps: int = 0
    first_step: int = 0
    first_time: float = 0.0
    told_epoch: int = 0

    @property
    def moved(self) -> bool:
        """Whether it has told of a step."""
        return self.steps > 0

    @property
    def fraction(self) -> float:
        """How much of its training is done."""
        return self.step / self.steps if self.moved else 0.0

    def left_s(self, now: float) -> float | None:
        """Return the seconds that it still trains at the pace seen so far, None before there is one."""
        if self.step <= self.first_step:
            return None
        return (now - self.first_time) / (self.step - self.first_step) * (self.steps - self.step)


class Display:
    """Shows the events of `suite.workers.pool.run_pool`; use as a context manager, call with each event.

    Args:
        n_runs: how many runs the pool was given.
        screen: where to show them; standard error by default.
        clock: seconds from any start.

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
        self._started: float | None = None  # when the first run moved: imports are no pace
        self._before = 0.0

    def __enter__(self) -> Display:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._runs.clear()
        self._note = ""
        self._screen.show([], [self._overall()])
        self._screen.__exit__()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take up one event of the pool."""
        kind = event["event"]
        if kind == "started":
            row = RunRow(event["task"], event["optimizer"], event["seed"], state="loading")
            self._runs[event["run_id"]] = _Run(row, self._clock())
        elif kind == "progress":
            self._move(event)
        elif kind == "ended":
            self._end(event)
        elif kind == "stopping":
            self._note = event["message"]
            if not self._screen.live:
                self._screen.say(event["message"])
        if kind != "progress" or self._clock() - self._shown >= _REFRESH_S:
            self._shown = self._clock()
            self._screen.show(self._rows(), [self._overall()])

    def _move(self, event: dict[str, Any]) -> None:
        row = _row(event)
        run = self._runs.setdefault(event["run_id"], _Run(row, self._clock()))
        if not run.moved:
            self._meet(run, row, event)
        run.row, run.step, run.steps = row, event["step"], event["steps"]
        if not self._screen.live and event["epoch"] > run.told_epoch:
            run.told_epoch = event["epoch"]
            self._screen.say(f"{label(row)}  {progress(row)}  {self._overall()}")

    def _meet(self, run: _Run, row: RunRow, event: dict[str, Any]) -> None:
        """Note where a run is when it first moves: what it did before tells nothing of the pace."""
        resuming = event["state"] == "resuming"
        run.first_step, run.first_time = event["step"], self._clock()
        if resuming or self._started is None:
            self._before += event["step"] / event["steps"]
        if self._started is None:
            self._started = self._clock()
        if resuming:
            run.told_epoch = event["epoch"]
            if not self._screen.live:
                self._screen.say(f"{label(row)}  resuming at step {event['step']} of {event['steps']}")

    def _end(self, event: dict[str, Any]) -> None:
        run = self._runs.pop(event["run_id"], None)
        outcome = event["outcome"]
        self._ended[outcome if outcome in self._ended else "error"] += 1
        line = f"{label(run.row) if run else event['run_id']}  {outcome}"
        if run and run.moved:
            line += f"  {progress(run.row)}"
        if run:
            line += f"  in {duration(self._clock() - run.started)}"
        if event["message"]:
            line += f": {event['message']}"
        if event["log"] and outcome == "error":
            line += f" (log: {event['log']})"
        self._screen.say(line)

    def _rows(self) -> list[RunRow]:
        now = self._clock()
        return [replace(run.row, left_s=run.left_s(now)) for run in self._runs.values()]

    def _overall(self) -> str:
        n_ended = sum(self._ended.values())
        parts = [f"{self._ended['done']} of {self._n_runs} done"]
        parts += [f"{n} {word}" for word, n in self._ended.items() if n and word != "done"]
        if self._runs:
            parts.append(f"{len(self._runs)} running")
        worked = n_ended + sum(run.fraction for run in self._runs.values())
        gained = worked - self._before
        if self._runs and self._started is not None and gained > 0.0 and not self._note:
            pace = (self._clock() - self._started) / gained
            lefts = (run.left_s(self._clock()) or 0.0 for run in self._runs.values())
            parts.append(f"{duration(max(pace * (self._n_runs - worked), *lefts))} left")
        if self._note:
            parts.append(self._note)
        return ", ".join(parts)


def _row(event: dict[str, Any]) -> RunRow:
    return RunRow(
        task=str(event["task"]),
        optimizer=str(event["optimizer"]),
        seed=event["seed"],
        epoch=event["epoch"],
        epochs=event["epochs"],
        loss=event["loss"],
        score=event["score"],
        metric=event["metric"],
        unit=event["unit"],
        sample_gradients=event["sample_gradients"],
        state="saved" if event["state"] == "interrupted" else event["state"],
    )
