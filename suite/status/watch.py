"""Takes snapshots of a store from its files, without contacting the processes that train.

Finished runs are read once, from the index. Each further snapshot lists the folder of every unfinished run,
reads the heartbeat of each started one, and the rows of each one with new rows. The status of a run comes
from its record, else from a live heartbeat, else from the scheduler if it was submitted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from suite.errors import SteppeError
from suite.records.schema import Record
from suite.spec import RunSpec
from suite.status.forecast import Finished, Forecast, Measured
from suite.status.labels import labels
from suite.status.progress import Progress, ProgressReader
from suite.status.queue_poller import QueueState
from suite.status.scheduler import Placed
from suite.status.snapshot import RunStatus, Snapshot, left_of, side_by_side_of
from suite.store import index
from suite.store.folders import RunError, Store
from suite.store.heartbeat import Lease, read_lease
from suite.store.lease import attempt_numbers
from suite.terminal.table import RunRow


@dataclass(frozen=True)
class _Found:
    """A run from its folder and from the scheduler."""

    run_id: str
    status: str
    spec: RunSpec
    placed: Placed | None = None
    run_error: RunError | None = None
    attempts: int = 0


class Watch:
    """Takes snapshots of a store repeatedly.

    Args:
        store: the store to read.
        ask: returns the state of the queue (`suite.status.queue_poller`); if None, only the store is read.

    """

    def __init__(self, store: Store, ask: Callable[[], QueueState] | None = None) -> None:
        self._store = store
        self._runs = store.root / "runs"
        self._ask = ask or (lambda: QueueState({}))
        self._finished: dict[str, Record] = {record.run_id: record for record in store.index()}
        self._took: dict[str, Measured | None] = {}
        self._read_finished = Finished(store)
        self._specs: dict[str, RunSpec] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._progress = ProgressReader()

    def look(self) -> Snapshot:
        """Take a snapshot; read only the files that changed since the previous one."""
        answer = self._ask()  # before the files, so that a run that ends in between has a record
        damaged: list[str] = []
        found: list[_Found] = []
        for run_id in self._store.run_ids():
            try:
                found.append(self._find(run_id, answer.placed.get(run_id)))
            except SteppeError as error:
                damaged.append(str(error))
        progress = {one.run_id: self._progress.read(self._runs / one.run_id) for one in found if one.attempts}
        forecast = Forecast(self._measured(found, progress))
        if self._names.keys() != {one.run_id for one in found}:
            names = labels([one.spec for one in found])
            self._names = {one.run_id: name for one, name in zip(found, names, strict=True)}
        seen = [self._seen(one, progress.get(one.run_id), forecast) for one in found]
        seen.sort(key=lambda run: (run.row.task, run.row.seed, run.row.optimizer, run.run_id))
        side_by_side = side_by_side_of(seen)
        left_s = left_of(seen, forecast, side_by_side)
        return Snapshot(tuple(seen), tuple(damaged), left_s, side_by_side, forecast, answer.silent)

    def _find(self, run_id: str, placed: Placed | None) -> _Found:
        record = self._finished.get(run_id)
        if record is None:
            names = _names(f"{self._runs}/{run_id}")
            whole = self._store.run(run_id).record() if "result.json" in names else None
            if whole is None:
                return self._unfinished(run_id, names, placed)
            record = self._finished[run_id] = index.slim(whole)
        return _Found(run_id, "failed" if record.failed else "done", record.spec)

    def _unfinished(self, run_id: str, names: Iterable[str], placed: Placed | None) -> _Found:
        spec = self._specs.get(run_id)
        if spec is None:
            spec = self._specs[run_id] = self._store.run(run_id).spec()
        folder = self._store.run(run_id) if "attempts" in names or "error.json" in names else None
        if folder is None:
            return _Found(run_id, _waiting(placed, None, None, 0), spec, placed)
        numbers = attempt_numbers(folder.path)
        lease = read_lease(folder.path / "attempts" / str(numbers[-1]) / "heartbeat") if numbers else None
        alive = lease is not None and lease.alive
        run_error = folder.error() if "error.json" in names and not alive else None
        status = "running" if alive else _waiting(placed, lease, run_error, len(numbers))
        return _Found(run_id, status, spec, placed, run_error, len(numbers))

    def _measured(
        self, found: Iterable[_Found], progress: Mapping[str, Progress | None]
    ) -> Iterator[Measured]:
        for run in found:
            if run.run_id in self._finished:
                if run.run_id not in self._took:
                    self._took[run.run_id] = self._read_finished(self._finished[run.run_id])
                one = self._took[run.run_id]
            else:
                so_far = progress.get(run.run_id)
                one = so_far.measured(run.spec) if so_far else None
            if one is not None:
                yield one

    def _seen(self, found: _Found, progress: Progress | None, forecast: Forecast) -> RunStatus:
        run_id, status, spec = found.run_id, found.status, found.spec
        row = RunRow(*self._names[run_id], spec.seed, epochs=spec.epochs, state=status)
        record = self._finished.get(run_id)
        if record is not None:
            why = f"{record.failure.kind} at step {record.failure.step}" if record.failure else ""
            return RunStatus(run_id, status, spec, row, failure=why)
        seen = RunStatus(
            run_id,
            status,
            spec,
            row,
            placed=found.placed,
            reason=_reason(found),
            log=(found.run_error.log if found.run_error else "")
            or (found.placed.log if found.placed else ""),
            attempts=found.attempts,
        )
        if progress is None:
            return seen if status != "running" else replace(seen, row=replace(row, state="loading"))
        newest = progress.row
        steps = max(1, round(spec.epochs * progress.steps_per_epoch), newest["step"])
        measuring = status == "running" and newest["step"] >= steps
        row = replace(
            row,
            epoch=newest["epoch"],
            loss=newest.get("train_loss"),
            score=progress.score,
            metric=progress.task.primary.name if progress.task else "",
            unit=progress.task.primary.unit if progress.task else "",
            sample_gradients=newest.get("sample_gradients"),
            left_s=progress.left_s(steps, forecast.measure_s(spec)) if status == "running" else None,
            state="measuring" if measuring else status,
        )
        return replace(seen, row=row, step=newest["step"], steps=steps)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # reading the spec raises the error
        return []


def _waiting(placed: Placed | None, lease: Lease | None, run_error: RunError | None, attempts: int) -> str:
    """Return the status of a run with no record and no live worker."""
    if placed is not None and placed.state != "left":
        if run_error is not None and run_error.job == placed.job and run_error.outcome != "storage":
            return "error"  # the job itself retries after a storage error
        return "preempted" if attempts and run_error is None else "queued"
    if run_error is not None:
        return "error"
    if placed is None:
        return "interrupted" if attempts else "queued"
    if placed.cancelled:
        return "cancelled"
    # A run that checkpoints and stops removes its heartbeat.
    return "interrupted" if attempts and lease is None else "lost"


def _reason(found: _Found) -> str:
    if found.status == "error" and found.run_error is not None:
        return found.run_error.message
    return found.placed.reason if found.placed is not None and found.status != "running" else ""
