"""Progress and pace of unfinished runs, read from their files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.metric import Description
from suite.spec import RunSpec
from suite.status.forecast import Measured, period
from suite.store.attempt import description_of
from suite.store.lease import attempt_numbers
from suite.store.lines import read_lines

_RECENT = 10
"""Number of last epochs that define the current pace of a run."""


@dataclass(frozen=True)
class Progress:
    """Progress of an unfinished run, from the files of its attempt."""

    row: dict[str, Any]
    """The last row of metrics.jsonl."""
    steps_per_epoch: float
    timings: tuple[dict[str, Any], ...]
    touched: float
    """Modification time of metrics.jsonl (Unix time)."""
    measure_every: int
    """Epochs between sharpness measurements, from its rows; 0 before the first one."""
    task: Description | None
    """Declarations of its task; None if missing or damaged."""
    score: float | None
    """Last value of the primary metric on the validation split; None before the first one."""

    def measured(self, spec: RunSpec) -> Measured | None:
        """Return the cost of the run so far; None before its first timing."""
        if not self.timings or not self.row.get("sample_gradients"):
            return None
        timing = self.timings[-1]
        share = timing["step"] / self.row["step"]  # the timings of a resumed attempt may lag behind its rows
        return Measured(
            spec=spec,
            epochs=timing["step"] / self.steps_per_epoch,
            sample_gradients=self.row["sample_gradients"] * share,
            train_s=timing["train_s"],
            evaluate_s=timing["evaluate_s"],
            measure_s=None,
            measure_every=self.measure_every,
        )

    def left_s(self, steps: int, measure_s: float) -> float | None:
        """Return the remaining seconds of a running run, from the pace of its last epochs."""
        if not self.timings:
            return None
        since = max(0.0, time.time() - self.touched)
        last = self.timings[-1]
        took, n_steps = _took(last), int(last["step"])
        if len(self.timings) > _RECENT:
            first = self.timings[-1 - _RECENT]
            took, n_steps = took - _took(first), n_steps - int(first["step"])
        pace = took / max(1, n_steps)
        measured, done = float(last.get("measure_s", 0.0)), max(1, int(last["step"]))
        # Measurements along training are done; the rest lies ahead.
        ahead = max(measure_s - measured, measured / done * (steps - done))
        return max(0.0, pace * (steps - int(self.row["step"])) - since) + ahead


class ProgressReader:
    """Reads the progress of runs repeatedly; a run is read again only if its file changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], Progress] = {}
        self._tasks: dict[Path, Description | None] = {}

    def read(self, run: Path) -> Progress | None:
        """Read the newest attempt that has rows; a new attempt has none until it loads the checkpoint."""
        for number in reversed(attempt_numbers(run)):
            folder = run / "attempts" / str(number)
            try:
                status = os.stat(folder / "metrics.jsonl")
            except OSError:
                continue
            key = (folder, status.st_mtime_ns, status.st_size)
            if status.st_size and key not in self._known:
                for old in [old for old in self._known if old[0] == folder]:
                    del self._known[old]
                progress = self._read(folder, status.st_mtime)
                if progress is None:
                    continue
                self._known[key] = progress
            if key in self._known:
                return self._known[key]
        return None

    def _read(self, attempt: Path, touched: float) -> Progress | None:
        rows = [row for row in read_lines(attempt / "metrics.jsonl") if row.get("step") and row.get("epoch")]
        if not rows:
            return None
        timings = tuple(row for row in read_lines(attempt / "timings.jsonl") if row.get("step"))
        if attempt not in self._tasks:  # the declarations are written once, before the first row
            self._tasks[attempt] = description_of(attempt)
        task = self._tasks[attempt]
        pace = rows[0]["step"] / rows[0]["epoch"]
        return Progress(rows[-1], pace, timings, touched, period(rows), task, _score(task, rows))


def _score(task: Description | None, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the last value on the validation split, which is not evaluated in every epoch."""
    if task is None or not task.validation:
        return None
    column = f"{task.validation}_{task.primary.name}"
    return next((row[column] for row in reversed(rows) if column in row), None)


def _took(timing: Mapping[str, Any]) -> float:
    return float(timing["train_s"]) + float(timing["evaluate_s"])
