"""Places of submitted runs, from the store's submissions and one query of the queue.

Jobs are recognised by name, so a job id that was never written down does not matter. One call of sacct looks
up tasks that left the queue without a record; without accounting their state is just "left". Final states
count at once. A node failure or a preemption may be followed by a requeue, so such a job counts as pending
for `GRACE_S`. This module loads neither torch nor submitit.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slurm import client
from slurm.submission import Batch, Submission, batch_of, submissions, taken
from suite.errors import SteppeError
from suite.status.scheduler import WAIT_S, Placed
from suite.store.folders import Store

GRACE_S = 15.0
"""Seconds after which a state in `_TRANSIENT` counts as final."""

_PENDING = {
    "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
}  # fmt: skip
_TRANSIENT = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
OVER = _TRANSIENT | {"CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"}
"""States of a job that has left the queue."""
_HELD = {"REQUEUE_HOLD", "SPECIAL_EXIT"}
_NEVER = {
    "AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS",
    "JobHeldAdmin", "PartitionInactive", "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed",
}  # fmt: skip
"""Reasons for which a job waits forever, even after a release."""

_RANK = {"running": 2, "pending": 1, "left": 0}
_QUEUE = ("squeue", "--all", "--array", "--states=all", "--noheader", "--format=%i|%j|%T|%e|%N|%r")
_ACCOUNTING = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,JobName,State,ExitCode")

_Key = tuple[str, int, int]  # submission, batch, array task


@dataclass(frozen=True)
class Task:
    """An array task in the queue."""

    batch: Batch
    number: int
    job: str
    """SLURM's id of the task: 123_4."""
    state: str
    """One of `suite.status.scheduler.STATES`."""
    word: str
    """SLURM's name of the state."""
    reason: str = ""
    node: str = ""

    @property
    def array(self) -> str:
        """Id of its job array."""
        return self.job.partition("_")[0]

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of its runs."""
        packs = self.batch.packs
        return packs[self.number] if self.number < len(packs) else ()

    @property
    def is_mine(self) -> bool:
        """Whether this user may cancel it."""
        try:
            return os.getuid() in (0, self.batch.folder.stat().st_uid)
        except FileNotFoundError:  # deleted after it was listed
            return False

    @property
    def hint(self) -> str:
        """The command for the user if the task cannot start without it, else empty."""
        if self.state == "pending" and self.reason in _NEVER:
            return f"steppe cancel {self.batch.submission}"
        if self.state == "pending" and (self.word in _HELD or "held" in self.reason.lower()):
            return f"scontrol release {self.job}"
        return ""


def look(root: Path, *, patient: bool = False, wait_s: float = WAIT_S) -> dict[str, Placed]:
    """Return the place of every submitted run: its newest task, unless only an older one is in the queue.

    `patient`: while another process holds the lock, batches without a job count as being submitted.
    Raises SteppeError if SLURM does not answer within `wait_s`. SLURM is not queried if every run has a
    record.
    """
    until = time.monotonic() + wait_s
    known, store = submissions(root), Store(root)
    batches = {key: batch for key, batch in _batches(known).items() if _has_packs(batch)}
    submitted = {run_id for batch in batches.values() for pack in batch.packs for run_id in pack}
    unfinished = {run_id for run_id in submitted if not store.is_done(run_id)}
    newest = known[-1].name if patient and known and taken(root) else ""
    # Read before the queue, whose answer lacks batches that are submitted in between.
    unsubmitted = {key for key, batch in batches.items() if batch.submission == newest and batch.job is None}
    tasks = _newest(_queued(known, batches, wait_s)) if unfinished else {}
    places = _places(batches, tasks)
    left = {key for run_id, key in places.items() if run_id in unfinished and key not in tasks}
    accounting = _accounting({batches[key[:2]] for key in left}, until - time.monotonic())
    workers = {submission.name: _workers(submission) for submission in known}
    placed: dict[_Key, Placed] = {}
    for key in set(places.values()):
        batch = batches[key[:2]]
        task = tasks.get(key) or _absent(batch, key[2], accounting, unsubmitted)
        placed[key] = _placed(task, workers[batch.submission])
    return {run_id: placed[key] for run_id, key in places.items()}


def in_queue(root: Path) -> list[Task]:
    """Return the pending and running tasks of this store."""
    known = submissions(root)
    batches = _batches(known)
    return [task for task in _queued(known, batches, WAIT_S) if task.state != "left"] if batches else []


def cancel(queue: Iterable[Task], chosen: Iterable[Task]) -> None:
    """Mark tasks as cancelled in the store, so that a requeued one ends at once; then cancel them in SLURM.

    `queue` holds all tasks in the queue: a job array of which all tasks are chosen is cancelled as a whole.
    """
    sizes = Counter(task.array for task in queue)
    by_array: dict[str, list[Task]] = defaultdict(list)
    for task in chosen:
        by_array[task.array].append(task)
    jobs: list[str] = []
    for array, tasks in by_array.items():
        tasks[0].batch.cancel(task.number for task in tasks)
        jobs += [array] if len(tasks) == sizes[array] else [task.job for task in tasks]
    client.ask("scancel", *jobs)


def _batches(known: Iterable[Submission]) -> dict[tuple[str, int], Batch]:
    """Return the batches of these submissions by submission name and number."""
    batches: dict[tuple[str, int], Batch] = {}
    for submission in known:
        with contextlib.suppress(FileNotFoundError):  # deleted after it was listed
            batches |= {(submission.name, batch.number): batch for batch in submission.batches}
    return batches


def _has_packs(batch: Batch) -> bool:
    """Whether the batch has packs; a missing file means that it is being deleted, a damaged one raises."""
    try:
        return bool(batch.packs)
    except SteppeError:
        if (batch.folder / "packs.json").exists():
            raise
        return False


def _workers(submission: Submission) -> int:
    """Return the number of concurrent runs in a task; 1 if the submission is being deleted."""
    try:
        return submission.config.profile.side_by_side
    except SteppeError:
        if (submission.folder / "submission.json").exists():
            raise
        return 1


def _places(batches: Mapping[tuple[str, int], Batch], tasks: Mapping[_Key, Task]) -> dict[str, _Key]:
    """Return the task of each run: its newest, unless only an older one is in the queue."""
    queued = {key for key, task in tasks.items() if task.state != "left"}
    places: dict[str, _Key] = {}
    for name, number in reversed([*batches]):
        for i, pack in enumerate(batches[name, number].packs):
            key = (name, number, i)
            for run_id in pack:
                if run_id not in places or (key in queued and places[run_id] not in queued):
                    places[run_id] = key
    return places


def _placed(task: Task, workers: int) -> Placed:
    return Placed(
        state=task.state,
        submission=task.batch.submission,
        job=task.job,
        reason=task.reason,
        log=str(task.batch.folder / f"{task.job}_0_log.out") if task.job else "",
        node=task.node,
        workers=workers,
        cancelled=task.state == "left" and (task.word == "CANCELLED" or task.number in task.batch.cancelled),
        hint=task.hint,
    )


# -- the queue ---------------------------------------------------------------------------------------


def _queued(
    known: Iterable[Submission], batches: Mapping[tuple[str, int], Batch], wait_s: float
) -> list[Task]:
    """Query squeue for the tasks of all users who submitted from this store, including recent ones."""
    users = {os.getuid()}
    for submission in known:
        with contextlib.suppress(FileNotFoundError):  # deleted after it was listed
            users.add(submission.folder.stat().st_uid)
    text = client.ask(*_QUEUE, f"--user={','.join(map(str, sorted(users)))}", timeout_s=wait_s)
    now = time.time()
    tasks = [task for line in text.splitlines() if (task := _task(line, batches, now)) is not None]
    for task in tasks:
        if task.batch.job is None:  # the submitter was killed before it wrote the id
            with contextlib.suppress(SteppeError):
                task.batch.set_job(task.array)
    return tasks


def _task(line: str, batches: Mapping[tuple[str, int], Batch], now: float) -> Task | None:
    """Parse a line of squeue; None if the job does not belong to this store."""
    job, _, rest = line.partition("|")
    name, *fields = rest.rsplit("|", 4)  # names of foreign jobs may contain a bar
    key = batch_of(name)
    number = job.partition("_")[2]
    if len(fields) != 4 or key is None or key not in batches or not number.isdecimal():
        return None
    word, end, node, reason = fields
    reason = "" if reason == "None" else reason
    if word in _PENDING or (word in _TRANSIENT and _age_s(end, now) < GRACE_S):
        state, node = "pending", ""
        reason = reason or ("" if word == "PENDING" else word)
    elif word in OVER:
        state, reason = "left", "" if word == "COMPLETED" else word
    else:
        state, reason = "running", "" if word == "RUNNING" else word
    return Task(batches[key], int(number), job, state, word, reason, node)


def _age_s(end: str, now: float) -> float:
    """Return the seconds since a time that squeue printed; infinity if it printed none."""
    try:
        return now - time.mktime(time.strptime(end, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return float("inf")


def _newest(tasks: Iterable[Task]) -> dict[_Key, Task]:
    """Index the tasks by place; if two jobs share a batch, a running or pending one wins."""
    best: dict[_Key, Task] = {}
    for task in tasks:
        key = (task.batch.submission, task.batch.number, task.number)
        if key not in best or _RANK[task.state] >= _RANK[best[key].state]:
            best[key] = task
    return best


# -- tasks that left the queue -----------------------------------------------------------------------


def _absent(
    batch: Batch,
    number: int,
    accounting: Mapping[tuple[str, str], str],
    unsubmitted: Collection[tuple[str, int]],
) -> Task:
    """Return the task of a place that the queue lacks."""
    job = batch.job
    if (batch.submission, batch.number) in unsubmitted:
        return Task(batch, number, "", "pending", "", "being submitted")
    if job is None:
        return Task(batch, number, "", "left", "", "never reached the queue")
    reason = accounting.get((job, str(number))) or accounting.get((job, "")) or ""
    return Task(batch, number, f"{job}_{number}", "left", reason.partition(" ")[0], reason)


def _accounting(batches: Iterable[Batch], wait_s: float) -> dict[tuple[str, str], str]:
    """Query sacct for the end of these batches' tasks, by job and task; empty without accounting.

    sacct prints tasks that ended before they began in one line, 123_[0-3,7]; its key has the task "".
    """
    names = {batch.job: batch.job_name for batch in batches if batch.job is not None}
    if not names:
        return {}
    try:
        text = client.ask(*_ACCOUNTING, f"--jobs={','.join(sorted(names))}", timeout_s=wait_s)
    except SteppeError:
        return {}
    ended = {}
    for line in text.splitlines():
        place, _, rest = line.partition("|")
        name, *fields = rest.rsplit("|", 2)
        job, _, task = place.partition("_")
        if len(fields) == 2 and names.get(job) == name:
            ended[job, task if task.isdecimal() else ""] = _end(*fields)
    return ended


def _end(state: str, exit_code: str) -> str:
    """Describe the end of a task from sacct's fields; empty if it completed."""
    word = state.partition(" ")[0]  # CANCELLED by 0
    if word == "COMPLETED":
        return ""
    if word not in OVER:
        return f"gone from the queue, {word} in the accounting"  # the controller lost the job
    code, _, signal = exit_code.partition(":")
    if word != "FAILED":
        return word
    how = f"signal {signal}" if signal not in ("", "0") else f"exit {code}" if code != "0" else ""
    return f"{word} {how}".strip()
