"""Where the runs of a store are, seen from outside: no process is asked, only their files are read.

Finished runs are read once, from the index. A look after that costs a listing of its folder for each
unfinished run, a heartbeat for those that were started, and the rows of those that moved. Of runs that were
handed to a scheduler, its answer tells the rest; the record always wins, and a living heartbeat next.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite import index
from suite.claim import attempt_numbers
from suite.errors import SteppeError
from suite.files import read_lines
from suite.heartbeat import Pulse, read_pulse
from suite.local.asker import Answer
from suite.local.forecast import Forecast, Guess, Measured, of_record
from suite.local.specs import Specs
from suite.local.table import RunRow
from suite.scheduler import Placed
from suite.spec import EntryRef
from suite.store import STATUSES, Store, Trouble

WORDS = (*STATUSES, "preempted", "lost", "cancelled")
"""What a run can be. preempted: begun, and waiting in the scheduler's queue to go on; lost: handed to the
scheduler, which does not have it any more, and nobody knows of an end; cancelled: taken back from it."""

FINAL = ("done", "failed")
"""Those with a record."""

_RECENT = 10
"""Epochs that tell the present pace of a run."""


@dataclass(frozen=True)
class Seen:
    """A run as it was at a look; None is what the files do not tell."""

    run_id: str
    status: str
    """One of `WORDS`."""
    spec: Mapping[str, Any]
    row: RunRow
    step: int | None = None
    steps: int | None = None
    failure: str = ""
    """How it failed, where its record says so."""
    placed: Placed | None = None
    """Its place with the scheduler; None where it was never handed to one, or is done."""
    reason: str = ""
    """Why it is where it is, as far as somebody said so."""
    log: str = ""
    """Path of what it printed, or else of what its job prints."""
    attempts: int = 0
    """How often it was begun; of finished runs it is not counted."""

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
    """At `side_by_side`; None where none runs, or one is of unknown length."""
    side_by_side: int
    """How many runs go on at a time: those at work, and what the scheduler's running jobs have room for."""
    forecast: Forecast
    silent: str = ""
    """One line if the scheduler does not answer: what it said before is shown, if anything."""

    def having(self, status: str) -> list[Seen]:
        """Return the runs of that status."""
        return [run for run in self.runs if run.status == status]

    @property
    def in_queue(self) -> frozenset[Placed]:
        """The scheduler's jobs that wait or run and hold a run to do."""
        placed = {run.placed for run in self.runs if run.placed and run.status not in FINAL}
        return frozenset(job for job in placed if job.state != "left")


@dataclass(frozen=True)
class _Track:
    """What an unfinished run has written."""

    row: dict[str, Any]  # the newest of metrics.jsonl
    steps_per_epoch: float
    timings: tuple[dict[str, Any], ...]
    touched: float  # when it wrote the newest timing


@dataclass(frozen=True)
class _Found:
    """A run as its folder and the scheduler have it."""

    run_id: str
    status: str
    spec: Mapping[str, Any]
    placed: Placed | None = None
    trouble: Trouble | None = None
    attempts: int = 0


class Watch:
    """Looks at a store again and again.

    Args:
        store: what to look at.
        ask: gives the scheduler's answer, see `suite.local.asker`; without it, only the store is read.

    """

    def __init__(self, store: Store, ask: Callable[[], Answer] | None = None) -> None:
        self._store = store
        self._runs = store.root / "runs"
        self._reader = Specs(self._runs)
        self._ask = ask or (lambda: Answer({}))
        records = store.index()
        self._finished: dict[str, Mapping[str, Any]] = {record["run_id"]: record for record in records}
        self._took: dict[str, Measured | None] = {}
        self._specs: dict[str, dict[str, Any]] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._tracks: dict[tuple[Path, int, int], _Track] = {}

    def look(self) -> Sight:
        """Read what changed since the look before."""
        answer = self._ask()  # before the files: what ends in between has its record by then
        damaged: list[str] = []
        found: list[_Found] = []
        for run_id in self._store.run_ids():
            try:
                found.append(self._find(run_id, answer.placed.get(run_id)))
            except SteppeError as error:
                damaged.append(str(error))
        tracks = {one.run_id: self._track(one.run_id) for one in found if one.attempts}
        forecast = Forecast(self._measured(found, tracks))
        if self._names.keys() != {one.run_id for one in found}:
            names = labels([one.spec for one in found])
            self._names = {one.run_id: name for one, name in zip(found, names, strict=True)}
        seen = [self._seen(one, tracks.get(one.run_id), forecast) for one in found]
        seen.sort(key=lambda run: (run.row.task, run.row.seed, run.row.optimizer, run.run_id))
        side_by_side = _side_by_side(seen)
        left_s = _left(seen, forecast, side_by_side)
        return Sight(tuple(seen), tuple(damaged), left_s, side_by_side, forecast, answer.silent)

    def _find(self, run_id: str, placed: Placed | None) -> _Found:
        record = self._finished.get(run_id)
        if record is None:
            names = _names(f"{self._runs}/{run_id}")
            whole = self._store.run(run_id).result() if "result.json" in names else None
            if whole is None:
                return self._unfinished(run_id, names, placed)
            record = self._finished[run_id] = index.slim(whole)
        return _Found(run_id, "done" if record["status"] == "completed" else "failed", record["spec"])

    def _unfinished(self, run_id: str, names: Iterable[str], placed: Placed | None) -> _Found:
        spec = self._specs.get(run_id)
        if spec is None:
            spec = self._specs[run_id] = self._reader.read(run_id)
        folder = self._store.run(run_id) if "attempts" in names or "error.json" in names else None
        if folder is None:
            return _Found(run_id, _waiting(placed, None, None, 0), spec, placed)
        numbers = attempt_numbers(folder.path)
        pulse = read_pulse(folder.path / "attempts" / str(numbers[-1]) / "heartbeat") if numbers else None
        alive = pulse is not None and pulse.alive
        trouble = folder.trouble() if "error.json" in names and not alive else None
        status = "running" if alive else _waiting(placed, pulse, trouble, len(numbers))
        return _Found(run_id, status, spec, placed, trouble, len(numbers))

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

    def _measured(self, found: Iterable[_Found], tracks: Mapping[str, _Track | None]) -> Iterator[Measured]:
        for run in found:
            if run.run_id in self._finished:
                if run.run_id not in self._took:
                    self._took[run.run_id] = of_record(self._finished[run.run_id])
                one = self._took[run.run_id]
            else:
                track = tracks.get(run.run_id)
                one = _measured_so_far(run.spec, track) if track else None
            if one is not None:
                yield one

    def _seen(self, found: _Found, track: _Track | None, forecast: Forecast) -> Seen:
        run_id, status, spec = found.run_id, found.status, found.spec
        row = RunRow(*self._names[run_id], spec["seed"], epochs=spec["epochs"], state=status)
        record = self._finished.get(run_id)
        if record is not None:
            failure = record.get("failure") or {}
            why = f"{failure.get('kind')} at step {failure.get('step')}" if failure else ""
            return Seen(run_id, status, spec, row, failure=why)
        seen = Seen(
            run_id,
            status,
            spec,
            row,
            placed=found.placed,
            reason=_reason(found),
            log=(found.trouble.log if found.trouble else "") or (found.placed.log if found.placed else ""),
            attempts=found.attempts,
        )
        if track is None:
            return seen if status != "running" else replace(seen, row=replace(row, state="loading"))
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
        return replace(seen, row=row, step=newest["step"], steps=steps)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # asked for its spec, it says what is wrong
        return []


def _waiting(placed: Placed | None, pulse: Pulse | None, trouble: Trouble | None, attempts: int) -> str:
    """Say in one of `WORDS` what a run is that has no record and that nobody works on."""
    if placed is not None and placed.state != "left":
        if trouble is not None and trouble.job == placed.job and trouble.outcome != "storage":
            return "error"  # what the disk refused its task tries again
        return "preempted" if attempts and trouble is None else "queued"
    if trouble is not None:
        return "error"
    if placed is None:
        return "interrupted" if attempts else "queued"
    if placed.cancelled:
        return "cancelled"
    return "interrupted" if attempts and pulse is None else "lost"  # only who saved takes its heartbeat along


def _reason(found: _Found) -> str:
    if found.status == "error" and found.trouble is not None:
        return found.trouble.message
    return found.placed.reason if found.placed is not None and found.status != "running" else ""


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
    measured, done = float(last.get("measure_s", 0.0)), max(1, int(last["step"]))
    ahead = max(
        measure_s - measured, measured / done * (steps - done)
    )  # what was measured on the way is over
    return max(0.0, pace * (steps - int(track.row["step"])) - since) + ahead


def _took(timing: Mapping[str, Any]) -> float:
    return float(timing["train_s"]) + float(timing["evaluate_s"])


def _side_by_side(seen: Iterable[Seen]) -> int:
    """Count the runs that go on at a time: places in the scheduler's running jobs, and runs beside them."""
    jobs, others = set(), 0
    for run in seen:
        if run.placed is not None and run.placed.state == "running":
            jobs.add(run.placed)
        elif run.status == "running":
            others += 1
    return others + sum(job.workers for job in jobs)


def _left(seen: Iterable[Seen], forecast: Forecast, side_by_side: int) -> float | None:
    """Share what is left between the runs that go on at a time; none ends before its longest run does."""
    if not side_by_side:
        return None
    guesses: dict[tuple[Any, ...], Guess | None] = {}
    running: list[float] = []
    waiting: list[float] = []
    for run in seen:
        stopped = run.status in ("error", "lost", "cancelled") or (run.status == "interrupted" and run.placed)
        if run.status in FINAL or stopped:
            continue
        if run.status == "running" and run.row.left_s is not None:
            running.append(run.row.left_s)
            continue
        key = _cost_key(run)
        if key not in guesses:
            guesses[key] = forecast.seconds(run.spec)
        guess = guesses[key]
        if guess is None:
            return None
        rest = guess.seconds * (1.0 - run.fraction)
        (running if run.status == "running" else waiting).append(rest)
    if not running:
        return None
    return max(max(running), math.fsum(running + waiting) / side_by_side)


def _cost_key(run: Seen) -> tuple[Any, ...]:
    """What runs of the same cost have in common, quickly: thousands differ by their seed only."""
    spec = run.spec
    machine = spec["precision"], spec["device"], spec["threads"], spec["compile"], spec.get("ranks", 1)
    entries = [(entry["name"], repr(entry["params"])) for entry in (spec["task"], spec["optimizer"])]
    return (*entries, spec["data"], spec["epochs"], machine)


def labels(specs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name task and optimizer of each spec with those parameters that differ between specs of one name.

    What an entry's defaults are is not asked, as that takes loading it, and with it torch.
    """
    pairs = [(spec["task"], spec["optimizer"]) for spec in specs]
    tasks, optimizers = (_labels(pair[i] for pair in pairs) for i in range(2))
    return list(zip(tasks, optimizers, strict=True))


def _labels(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name each entry; thousands of runs share a few."""
    keys: list[tuple[str, str]] = []
    distinct: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in entries:
        keys.append((entry["name"], repr(entry["params"])))
        distinct.setdefault(keys[-1], entry)
    differing = _differing(distinct.values())
    named = {key: _label(entry, differing[entry["name"]]) for key, entry in distinct.items()}
    return [named[key] for key in keys]


def _differing(entries: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in entries:
        own = values[entry["name"]]
        for key, value in entry["params"].items():
            own[key].add(repr(value))
    return {name: {key for key, some in own.items() if len(some) > 1} for name, own in values.items()}


def _label(entry: Mapping[str, Any], shown: set[str]) -> str:
    params = {key: value for key, value in entry["params"].items() if key in shown}
    return EntryRef(entry["name"], entry["version"], params).label()
