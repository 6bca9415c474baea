"""Where the runs of a store are, seen from outside: no process is asked, only their files are read.

Finished runs are read once, from the index. A look after that costs a `stat` and a heartbeat for each
unfinished run, and the rows of those that moved.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite import index
from suite.claim import attempt_numbers, latest_pulse
from suite.errors import SteppeError
from suite.files import read_lines
from suite.local.forecast import Forecast, Measured, of_record
from suite.local.table import RunRow
from suite.spec import EntryRef
from suite.store import Store

_RECENT = 10
"""Epochs that tell the present pace of a run."""


@dataclass(frozen=True)
class Seen:
    """A run as it was at a look; None is what the files do not tell."""

    run_id: str
    status: str
    """One of `suite.store.STATUSES`."""
    spec: Mapping[str, Any]
    row: RunRow
    step: int | None = None
    steps: int | None = None
    failure: str = ""

    @property
    def fraction(self) -> float:
        """How much of its training is done."""
        return min(1.0, self.step / self.steps) if self.step and self.steps else 0.0


@dataclass(frozen=True)
class Sight:
    """The runs of a store in the order of their names, and the seconds until all of them are done."""

    runs: tuple[Seen, ...]
    damaged: tuple[str, ...]
    """A line for each run that could not be read."""
    left_s: float | None
    """At as many runs at a time as there are now; None where none runs, or one is of unknown length."""
    forecast: Forecast

    def having(self, status: str) -> list[Seen]:
        """Return the runs of that status."""
        return [run for run in self.runs if run.status == status]


@dataclass(frozen=True)
class _Track:
    """What an unfinished run has written."""

    row: dict[str, Any]  # the newest of metrics.jsonl
    steps_per_epoch: float
    timings: tuple[dict[str, Any], ...]
    touched: float  # when it wrote the newest timing


class Watch:
    """Looks at a store again and again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        records = store.index()
        self._finished: dict[str, dict[str, Any]] = {record["run_id"]: record for record in records}
        self._took: dict[str, Measured | None] = {}
        self._specs: dict[str, dict[str, Any]] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._tracks: dict[tuple[Path, int, int], _Track] = {}

    def look(self) -> Sight:
        """Read what changed since the look before."""
        damaged: list[str] = []
        found: list[tuple[str, str, dict[str, Any]]] = []
        for run_id in self._store.run_ids():
            try:
                found.append((run_id, *self._state(run_id)))
            except SteppeError as error:
                damaged.append(str(error))
        tracks = {run_id: self._track(run_id) for run_id, status, _ in found if status in _STARTED}
        forecast = Forecast(self._measured(found, tracks))
        if self._names.keys() != {run_id for run_id, _, _ in found}:
            names = labels([spec for _, _, spec in found])
            self._names = {run_id: name for (run_id, _, _), name in zip(found, names, strict=True)}
        seen = [self._seen(*one, tracks.get(one[0]), forecast) for one in found]
        seen.sort(key=lambda run: (run.row.task, run.row.seed, run.row.optimizer, run.run_id))
        return Sight(tuple(seen), tuple(damaged), _left(seen, forecast), forecast)

    def _state(self, run_id: str) -> tuple[str, dict[str, Any]]:
        record = self._finished.get(run_id)
        folder = self._store.run(run_id)
        if record is None and (folder.path / "result.json").exists():
            whole = folder.result()
            if whole is not None:
                record = self._finished[run_id] = index.slim(whole)
        if record is not None:
            return ("done" if record["status"] == "completed" else "failed"), record["spec"]
        if run_id not in self._specs:
            self._specs[run_id] = folder.spec().to_dict()
        pulse = latest_pulse(folder.path)
        if pulse is not None and pulse.alive:
            return "running", self._specs[run_id]
        return ("interrupted" if attempt_numbers(folder.path) else "queued"), self._specs[run_id]

    def _track(self, run_id: str) -> _Track | None:
        """Read the newest attempt that has written something: one just begun has not, nor read what was."""
        run = self._store.run(run_id).path
        for number in reversed(attempt_numbers(run)):
            folder = run / "attempts" / str(number)
            try:
                status = os.stat(folder / "metrics.jsonl")
            except OSError:
                continue
            key = (folder, status.st_mtime_ns, status.st_size)
            if status.st_size and key not in self._tracks:
                for old in [old for old in self._tracks if old[0] == folder]:
                    del self._tracks[old]
                track = _read_track(folder, status.st_mtime)
                if track is None:
                    continue
                self._tracks[key] = track
            if key in self._tracks:
                return self._tracks[key]
        return None

    def _measured(
        self, found: Iterable[tuple[str, str, dict[str, Any]]], tracks: Mapping[str, _Track | None]
    ) -> Iterator[Measured]:
        for run_id, _, spec in found:
            if run_id in self._finished:
                if run_id not in self._took:
                    self._took[run_id] = of_record(self._finished[run_id])
                one = self._took[run_id]
            else:
                track = tracks.get(run_id)
                one = _measured_so_far(spec, track) if track else None
            if one is not None:
                yield one

    def _seen(
        self,
        run_id: str,
        status: str,
        spec: Mapping[str, Any],
        track: _Track | None,
        forecast: Forecast,
    ) -> Seen:
        row = RunRow(*self._names[run_id], spec["seed"], epochs=spec["epochs"], state=status)
        record = self._finished.get(run_id)
        if record is not None:
            failure = record.get("failure") or {}
            why = f"{failure.get('kind')} at step {failure.get('step')}" if failure else ""
            return Seen(run_id, status, spec, row, failure=why)
        if track is None:
            state = "loading" if status == "running" else status
            return Seen(run_id, status, spec, replace(row, state=state))
        newest = track.row
        steps = max(1, round(spec["epochs"] * track.steps_per_epoch), newest["step"])
        measuring = status == "running" and newest["step"] >= steps
        row = replace(
            row,
            epoch=newest["epoch"],
            loss=newest.get("train_loss"),
            accuracy=newest.get("validation_accuracy"),
            sample_gradients=newest.get("sample_gradients"),
            left_s=_run_left(track, steps, forecast.measure_s(spec)) if status == "running" else None,
            state="measuring" if measuring else status,
        )
        return Seen(run_id, status, spec, row, newest["step"], steps)


_STARTED = ("running", "interrupted")


def _read_track(attempt: Path, touched: float) -> _Track | None:
    rows = [row for row in read_lines(attempt / "metrics.jsonl") if row.get("step") and row.get("epoch")]
    if not rows:
        return None
    timings = tuple(row for row in read_lines(attempt / "timings.jsonl") if row.get("step"))
    return _Track(rows[-1], rows[0]["step"] / rows[0]["epoch"], timings, touched)


def _measured_so_far(spec: Mapping[str, Any], track: _Track) -> Measured | None:
    if not track.timings or not track.row.get("sample_gradients"):
        return None
    timing = track.timings[-1]
    share = timing["step"] / track.row["step"]  # a new attempt may have timed less than it took over
    return Measured(
        spec=spec,
        epochs=timing["step"] / track.steps_per_epoch,
        sample_gradients=round(track.row["sample_gradients"] * share),
        train_s=timing["train_s"],
        evaluate_s=timing["evaluate_s"],
        measure_s=None,
    )


def _run_left(track: _Track, steps: int, measure_s: float) -> float | None:
    """Return the seconds that a running run still takes, from the pace of its last epochs."""
    if not track.timings:
        return None
    since = max(0.0, time.time() - track.touched)
    last = track.timings[-1]
    took, n_steps = _took(last), int(last["step"])
    if len(track.timings) > _RECENT:
        first = track.timings[-1 - _RECENT]
        took, n_steps = took - _took(first), n_steps - int(first["step"])
    pace = took / max(1, n_steps)
    return max(0.0, pace * (steps - int(track.row["step"])) - since) + measure_s


def _took(timing: Mapping[str, Any]) -> float:
    return float(timing["train_s"]) + float(timing["evaluate_s"])


def _left(seen: Iterable[Seen], forecast: Forecast) -> float | None:
    """Share what is left between as many runs as there are now; none ends before its longest run does."""
    running, waiting = [], []
    for run in seen:
        guess = forecast.seconds(run.spec)
        rest = guess.seconds * (1.0 - run.fraction) if guess else None
        if run.status == "running":
            running.append(rest if run.row.left_s is None else run.row.left_s)
        elif run.status in ("queued", "interrupted"):
            waiting.append(rest)
    known = [left for left in running if left is not None]
    ahead = [left for left in waiting if left is not None]
    if not running or len(known) < len(running) or len(ahead) < len(waiting):
        return None
    return max(max(known), math.fsum(known + ahead) / len(running))


def labels(specs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name task and optimizer of each spec with those parameters that differ between specs of one name.

    What an entry's defaults are is not asked, as that takes loading it, and with it torch.
    """
    entries = [(spec["task"], spec["optimizer"]) for spec in specs]
    differing = (_differing(pair[0] for pair in entries), _differing(pair[1] for pair in entries))
    return [
        (_label(task, differing[0][task["name"]]), _label(optimizer, differing[1][optimizer["name"]]))
        for task, optimizer in entries
    ]


def _differing(entries: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    counts: dict[str, int] = defaultdict(int)
    for entry in entries:
        counts[entry["name"]] += 1
        for key, value in entry["params"].items():
            values[entry["name"]][key].add(repr(value))
    return {name: {key for key, some in values[name].items() if len(some) > 1} for name in counts}


def _label(entry: Mapping[str, Any], shown: set[str]) -> str:
    params = {key: value for key, value in entry["params"].items() if key in shown}
    return EntryRef(entry["name"], entry["version"], params).label()
