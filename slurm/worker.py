"""Entry point of an array task: completes the runs of its pack (`python -m slurm.worker BATCH_FOLDER`).

SLURM may kill and restart a task at any time, on any node. The task's state is the store: finished runs are
skipped, others resume from their newest checkpoint. After SLURM's warning every run checkpoints and the task
requeues itself. After a last call without a warning, which may be a cancellation, runs checkpoint and the
task ends. The exit code is 0 if every run of the pack has a record, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from slurm.client import ask
from slurm.requeue import Requeue
from slurm.signals import SignalState
from slurm.submission import Batch, Submission, SubmissionConfig
from slurm.worker_rank import Step, serve
from suite.errors import SteppeError
from suite.store.folders import RunFolder, Store
from suite.store.heartbeat import STALE_S
from suite.store.lease import latest_lease
from suite.terminal.display import Display
from suite.terminal.screen import Screen
from suite.workers.network import Place
from suite.workers.pool import run_pool
from suite.workers.process import Event
from suite.workers.serve import ENTRY
from suite.workers.signals import held

if TYPE_CHECKING:
    from suite.track.launch import Mirror

_LATE = 0.75
"""Share of the time between warning and end after which the task is requeued with runs still unsaved."""

_TEMPORARY = ("storage", "lost")
"""Errors that another start of the task may not repeat."""

_ARRIVAL_S = 1.0
"""Seconds within which a signal to a worker process also reaches this process."""


@dataclass(frozen=True)
class RetryPolicy:
    """Waiting times in seconds."""

    storage_s: tuple[float, ...] = (10.0, 30.0, 90.0, 270.0, 600.0)
    """Pauses before each retry of runs whose writes to the store failed."""
    busy_s: float = 3 * STALE_S
    """Maximum wait for runs leased by another process, which may have been on a lost node."""
    poll_s: float = 5.0
    """Interval between two checks of those leases."""
    wandb_s: float = 5.0
    """Maximum wait for the W&B mirror at the end."""


@dataclass(frozen=True)
class Task:
    """SLURM's identification of this array task."""

    job: str
    """SLURM's id of the task, ARRAY_INDEX, which is the same after a requeue."""
    index: int
    restart_count: int
    """Number of restarts; SLURM resets it after a node failure."""

    @classmethod
    def current(cls) -> Task:
        """Read it from the environment."""
        try:
            array, index = os.environ["SLURM_ARRAY_JOB_ID"], int(os.environ["SLURM_ARRAY_TASK_ID"])
            return cls(f"{array}_{index}", index, int(os.environ.get("SLURM_RESTART_COUNT") or 0))
        except (KeyError, ValueError):
            raise SteppeError(
                "slurm.worker is started by SLURM as a task of a job array: `steppe submit` hands runs to it"
            ) from None


def main() -> int:
    """Run the pack of this task in rank 0; the other ranks start workers for it."""
    signals = SignalState()
    parser = argparse.ArgumentParser(prog="python -m slurm.worker")
    parser.add_argument("batch", type=Path, help="a batch folder of a submission")
    args = parser.parse_args()
    batch = Batch(args.batch.resolve())
    try:
        step = Step.current()
        task, submission = Task.current(), Submission(batch.folder.parent)
        if step.rank:
            return serve(step, submission, lambda: all(map(_has_record, _pack(batch, task))))
        with step.listen() or contextlib.nullcontext() as listener:
            place = Place(step.n, step.address, listener, submission.key if listener else "")
            return work(batch, task, signals, place=place)
    except SteppeError as error:
        say(f"steppe: error: {error}")
        return 2
    finally:
        signals.close()


def work(
    batch: Batch,
    task: Task,
    signals: SignalState,
    policy: RetryPolicy | None = None,
    entry: str = ENTRY,
    place: Place | None = None,
) -> int:
    """Complete the task's runs until a signal arrives; return the exit code."""
    pack = _pack(batch, task)
    todo = [run.run_id for run in pack if _is_open(run, task.job)]
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    start = f"{now}, job {task.job}, restart {task.restart_count}, node {node}"
    say(f"--- {start}: {len(todo)} of {len(pack)} runs to do")
    if task.index in batch.cancelled:  # cancelled in an earlier start, and then requeued by SLURM
        say("cancelled by `steppe cancel`: `steppe retry --cancelled` goes on with it")
    elif todo:
        TaskRun(batch, task, signals, policy or RetryPolicy(), entry, place or Place()).work(todo)
    n_records = sum(map(_has_record, pack))
    say(f"--- job {task.job}: {n_records} of {len(pack)} runs have their records")
    return 0 if n_records == len(pack) else 1


def _store(batch: Batch) -> Store:
    return Store(batch.folder.parents[2])


def _pack(batch: Batch, task: Task) -> list[RunFolder]:
    store = _store(batch)
    try:
        return [store.run(run_id) for run_id in batch.packs[task.index]]
    except IndexError:
        raise SteppeError(f"{batch.folder}/packs.json has no pack {task.index}") from None


def _has_record(run: RunFolder) -> bool:
    try:
        return run.record() is not None
    except SteppeError:  # damaged: the attempt to run it reports that
        return False


def _is_open(run: RunFolder, job: str) -> bool:
    """Whether the run has neither a record nor a permanent error from an earlier start of this task."""
    if _has_record(run):
        return False
    run_error = run.error()
    return run_error is None or run_error.job != job or run_error.outcome in _TEMPORARY


@dataclass
class TaskRun:
    """One start of a task."""

    batch: Batch
    task: Task
    signals: SignalState
    policy: RetryPolicy
    entry: str
    place: Place

    def __post_init__(self) -> None:
        self._store, self._config = _store(self.batch), Submission(self.batch.folder.parent).config
        note = self.batch.folder / f"idle-{self.task.index}"
        self._requeue = Requeue(self.task.job, note, self._config.profile.usable_s)
        self._outcomes: dict[str, str] = {}
        self._busy_until: float | None = None
        self._display: Display | None = None
        self._mirror: Mirror | None = None

    def work(self, run_ids: Sequence[str]) -> None:
        """Run until all runs are done or a signal arrives, then requeue the task if runs are left."""
        self._mirror = _mirror(self._store, self._config, run_ids)
        with Display(len(run_ids), Screen(_LOG)) as self._display:
            self._rounds(run_ids)
        if self._mirror is not None and (summary := self._mirror.close(self.policy.wandb_s)):
            say(summary)
        if self.signals.any and any(_is_open(self._store.run(run_id), self.task.job) for run_id in run_ids):
            self._request_requeue()

    def _rounds(self, run_ids: Sequence[str]) -> None:
        """Run the runs; retry for a while those with storage errors or with another process's lease."""
        todo, elsewhere = [*run_ids], set[str]()
        pauses = iter(self.policy.storage_s)
        while todo and not self.signals.any:
            self._round(todo)
            ended = {run_id: self._outcomes.get(run_id) for run_id in todo}
            elsewhere |= {run_id for run_id, outcome in ended.items() if outcome == "busy"}
            todo = [run_id for run_id, outcome in ended.items() if outcome == "storage"]
            if "done" in ended.values():
                pauses, self._busy_until = iter(self.policy.storage_s), None
            if "interrupted" in ended.values():
                self.signals.sleep(_ARRIVAL_S)
            if todo and (pause := next(pauses, None)) is not None:
                say(f"the store refuses writes: trying {len(todo)} runs again in {pause:.0f} s")
                self.signals.sleep(pause)
            else:
                todo = self._freed([run_id for run_id in run_ids if run_id in elsewhere])
                elsewhere.difference_update(todo)

    def _round(self, run_ids: Sequence[str]) -> None:
        config = self._config
        run_pool(
            self._store.root,
            run_ids,
            workers=config.profile.side_by_side,
            plugins=config.plugins,
            data_root=Path(config.data) if config.data else None,
            checkpoint_s=config.checkpoint_s,
            on_event=self._on_event,
            entry=self.entry,
            job=self.task.job,
            restart_count=self.task.restart_count,
            stop_requests=self._asked,
            place=self.place,
        )

    def _on_event(self, event: Event) -> None:
        kind = event["event"]
        if kind == "started":
            self._outcomes[event["run_id"]] = "begun"
            self._requeue.begun(self._store.run(event["run_id"]))
        elif kind == "ended":
            self._outcomes[event["run_id"]] = event["outcome"]
        elif kind == "stopping":
            call = "SIGTERM, the last call" if self.signals.last else "SIGUSR2, a warning"
            event = {**event, "message": f"{call}: saving at the next step"}
        if self._display is not None:
            self._display(event)
        if self._mirror is not None:
            self._mirror(event)

    def _asked(self) -> int:
        """Return whether the pool must stop; requeue the task if a run fails to checkpoint in time."""
        warned_s = self.signals.warned_s
        if warned_s is not None and warned_s > _LATE * self._config.profile.signal_s:
            self._request_requeue()
        return int(self.signals.any)

    def _freed(self, elsewhere: Sequence[str]) -> list[str]:
        """Wait for runs that other processes have leased; return the first free ones, or none in the end."""
        if self._busy_until is None:
            self._busy_until = time.monotonic() + self.policy.busy_s
        while elsewhere and not self.signals.any:
            if time.monotonic() > self._busy_until:
                say(f"left to the processes that run them: {', '.join(elsewhere)}")
                break
            self.signals.sleep(self.policy.poll_s)
            if free := [run_id for run_id in elsewhere if not _is_held(self._store.run(run_id))]:
                return free
        return []

    def _request_requeue(self) -> None:
        """Requeue the task, once, unless it is being cancelled or was requeued by another process."""
        if self._requeue.decided or self.task.index in self.batch.cancelled:
            return
        if (self.signals.last or self.signals.warned_s is None) and not _has_grace(self.task.job):
            return
        say(self._requeue.request())
        if self._requeue.hopeless:
            limit_min = self._config.profile.time_min
            reason = (
                f"job {self.task.job} was stopped again before this run made progress: its time limit of "
                f"{limit_min} min is too short; raise the profile's time_min, then `steppe retry`"
            )
            for run_id, outcome in self._outcomes.items():
                if outcome in ("begun", "interrupted"):
                    with contextlib.suppress(SteppeError):
                        self._store.run(run_id).record_error("error", reason)


def _has_grace(job: str) -> bool:
    """Whether SLURM still lists the job as running after a last call.

    It does so in the grace time of a preemption without a warning, and would not requeue a job that ends in
    that time. A job that is cancelled, requeued or over its limit is completing.
    """
    try:
        state = ask("squeue", "--noheader", f"--jobs={job}", "--format=%T", timeout_s=10)
    except SteppeError:
        return False
    return state.strip() == "RUNNING"


def _is_held(run: RunFolder) -> bool:
    lease = latest_lease(run.path)
    return lease is not None and lease.alive and not _has_record(run)


def _mirror(store: Store, config: SubmissionConfig, run_ids: Iterable[str]) -> Mirror | None:
    """Start the W&B mirror; its errors are logged and never stop the runs."""
    if config.wandb == "off":
        return None
    from suite.entries.cached_registry import CachedRegistry
    from suite.track import launch, mode

    specs = []
    for run_id in run_ids:
        with contextlib.suppress(SteppeError):  # reported when the run starts
            specs.append(store.run(run_id).spec())
    plugins = [Path(plugin) for plugin in config.plugins]
    try:
        with held():  # signals wait until the sidecar has its handlers
            return launch.start(store, mode.choose(config.wandb), specs, CachedRegistry(plugins), plugins)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        say(f"W&B: not mirrored here ({error}): `steppe wandb sync` mirrors from the store")
        return None


class _Log(io.TextIOBase):
    """The task's log. A write error loses the line and raises nothing."""

    def write(self, text: str) -> int:
        """Write without buffering."""
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="replace"))
        return len(text)


_LOG = cast(TextIO, _Log())


def say(text: str) -> None:
    """Write a line to the task's log."""
    _LOG.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
