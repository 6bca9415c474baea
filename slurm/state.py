"""Where the runs that were handed to SLURM are: the store's submissions, and one look at the queue.

A job is recognised by its name, so its id need not have been written down. Whatever left the queue without a
record is looked up by one call of sacct; without accounting it has simply left. What SLURM says of a job is
believed at once where it is final. A lost node or a preemption may be followed by a requeue, so there the job
counts as pending for a moment. Nothing here loads torch or submitit.
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
"""How long a state in `_TRANSIENT` has to last before it is believed."""

_PENDING = {
    "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
}  # fmt: skip
_TRANSIENT = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
OVER = _TRANSIENT | {"CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"}
"""States of a job that is not in the queue any more."""
_HELD = {"REQUEUE_HOLD", "SPECIAL_EXIT"}
_NEVER = {
    "AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS",
    "JobHeldAdmin", "PartitionInactive", "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed",
}  # fmt: skip
"""Reasons of a wait that does not end by itself and that releasing the job does not end either."""

_RANK = {"running": 2, "pending": 1, "left": 0}
_QUEUE = ("squeue", "--all", "--array", "--states=all", "--noheader", "--format=%i|%j|%T|%e|%N|%r")
_ACCOUNTING = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,JobName,State,ExitCode")

_Key = tuple[str, int, int]  # submission, batch, array task


@dataclass(frozen=True)
class Task:
    """An array task as the queue has it."""

    batch: Batch
    number: int
    job: str
    """As SLURM writes it: 123_4."""
    state: str
    """One of `suite.status.scheduler.STATES`."""
    word: str
    """The state in SLURM's word."""
    reason: str = ""
    node: str = ""

    @property
    def array(self) -> str:
        """The id of its job array."""
        return self.job.partition("_")[0]

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that it holds."""
        packs = self.batch.packs
        return packs[self.number] if self.number < len(packs) else ()

    @property
    def is_mine(self) -> bool:
        """Whether this user may cancel it."""
        try:
            return os.getuid() in (0, self.batch.folder.stat().st_uid)
        except FileNotFoundError:  # deleted since it was listed
            return False

    @property
    def hint(self) -> str:
        """The command that helps where it waits for somebody."""
        if self.state == "pending" and self.reason in _NEVER:
            return f"steppe cancel {self.batch.submission}"
        if self.state == "pending" and (self.word in _HELD or "held" in self.reason.lower()):
            return f"scontrol release {self.job}"
        return ""


def look(root: Path, *, patient: bool = False, wait_s: float = WAIT_S) -> dict[str, Placed]:
    """Find the newest place of every run that was ever handed to SLURM; a place in the queue wins.

    `patient`: while somebody holds the lock, batches that SLURM has not got yet are on their way to it.
    Raises SteppeError where SLURM does not answer within `wait_s`; it is not asked where every run has its
    record.
    """
    until = time.monotonic() + wait_s
    every, store = submissions(root), Store(root)
    batches = {key: batch for key, batch in _batches(every).items() if _has_packs(batch)}
    handed = {run_id for batch in batches.values() for pack in batch.packs for run_id in pack}
    unfinished = {run_id for run_id in handed if not store.is_done(run_id)}
    coming = every[-1].name if patient and every and taken(root) else ""
    # Looked at before the queue is: what is handed over in between is not in its answer.
    unsubmitted = {key for key, batch in batches.items() if batch.submission == coming and batch.job is None}
    tasks = _newest(_queued(every, batches, wait_s)) if unfinished else {}
    places = _places(batches, tasks)
    left = {key for run_id, key in places.items() if run_id in unfinished and key not in tasks}
    accounting = _accounting({batches[key[:2]] for key in left}, until - time.monotonic())
    workers = {one.name: _workers(one) for one in every}
    placed: dict[_Key, Placed] = {}
    for key in set(places.values()):
        batch = batches[key[:2]]
        task = tasks.get(key) or _gone(batch, key[2], accounting, unsubmitted)
        placed[key] = _placed(task, workers[batch.submission])
    return {run_id: placed[key] for run_id, key in places.items()}


def in_queue(root: Path) -> list[Task]:
    """List the tasks of this store that wait or run, by job."""
    every = submissions(root)
    batches = _batches(every)
    return [task for task in _queued(every, batches, WAIT_S) if task.state != "left"] if batches else []


def cancel(every: Iterable[Task], chosen: Iterable[Task]) -> None:
    """Write down that the user takes tasks back, so that they stay back; then tell the cluster.

    `every` are all tasks in the queue: a job array of which all are chosen is cancelled as a whole.
    """
    sizes = Counter(task.array for task in every)
    by_array: dict[str, list[Task]] = defaultdict(list)
    for task in chosen:
        by_array[task.array].append(task)
    jobs: list[str] = []
    for array, tasks in by_array.items():
        tasks[0].batch.cancel(task.number for task in tasks)
        jobs += [array] if len(tasks) == sizes[array] else [task.job for task in tasks]
    client.ask("scancel", *jobs)


def _batches(every: Iterable[Submission]) -> dict[tuple[str, int], Batch]:
    """List the batches of these submissions by name and number."""
    found: dict[tuple[str, int], Batch] = {}
    for one in every:
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            found |= {(one.name, batch.number): batch for batch in one.batches}
    return found


def _has_packs(batch: Batch) -> bool:
    """Read its packs; whoever takes a batch back deletes them, and damaged ones are an error."""
    try:
        return bool(batch.packs)
    except SteppeError:
        if (batch.folder / "packs.json").exists():
            raise
        return False


def _workers(one: Submission) -> int:
    """Read how many runs are side by side in its tasks; 1 where it is being taken back."""
    try:
        return one.config.profile.side_by_side
    except SteppeError:
        if (one.folder / "submission.json").exists():
            raise
        return 1


def _places(batches: Mapping[tuple[str, int], Batch], tasks: Mapping[_Key, Task]) -> dict[str, _Key]:
    """Return for each run the task that holds it: the newest, unless only an older one is in the queue."""
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
    every: Iterable[Submission], batches: Mapping[tuple[str, int], Batch], wait_s: float
) -> list[Task]:
    """Ask squeue about all that the submitters of this store have in the queue, or had until lately."""
    users = {os.getuid()}
    for one in every:
        with contextlib.suppress(FileNotFoundError):  # taken back since it was listed
            users.add(one.folder.stat().st_uid)
    text = client.ask(*_QUEUE, f"--user={','.join(map(str, sorted(users)))}", timeout_s=wait_s)
    now = time.time()
    tasks = [task for line in text.splitlines() if (task := _task(line, batches, now)) is not None]
    for task in tasks:
        if task.batch.job is None:  # who submitted it was killed just then
            with contextlib.suppress(SteppeError):
                task.batch.set_job(task.array)
    return tasks


def _task(line: str, batches: Mapping[tuple[str, int], Batch], now: float) -> Task | None:
    """Read a line of squeue; None where the job is none of this store's."""
    job, _, rest = line.partition("|")
    name, *fields = rest.rsplit("|", 4)  # only a stranger's name may hold a bar
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
    """Seconds since a time that squeue wrote; endless where it does not tell one."""
    try:
        return now - time.mktime(time.strptime(end, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return float("inf")


def _newest(tasks: Iterable[Task]) -> dict[_Key, Task]:
    """Tell the tasks apart by place; of two jobs of one batch, the one that is still to do or at work."""
    best: dict[_Key, Task] = {}
    for task in tasks:
        key = (task.batch.submission, task.batch.number, task.number)
        if key not in best or _RANK[task.state] >= _RANK[best[key].state]:
            best[key] = task
    return best


# -- what left it ------------------------------------------------------------------------------------


def _gone(
    batch: Batch,
    number: int,
    accounting: Mapping[tuple[str, str], str],
    unsubmitted: Collection[tuple[str, int]],
) -> Task:
    """Describe a task that the queue does not have."""
    job = batch.job
    if (batch.submission, batch.number) in unsubmitted:
        return Task(batch, number, "", "pending", "", "being submitted")
    if job is None:
        return Task(batch, number, "", "left", "", "never reached the queue")
    reason = accounting.get((job, str(number))) or accounting.get((job, "")) or ""
    return Task(batch, number, f"{job}_{number}", "left", reason.partition(" ")[0], reason)


def _accounting(batches: Iterable[Batch], wait_s: float) -> dict[tuple[str, str], str]:
    """Ask sacct how the tasks of these batches ended, by job and task; nothing without accounting.

    Tasks that ended before they began stand in one line, 123_[0-3,7], which is that of the task "".
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
        one, _, rest = line.partition("|")
        name, *fields = rest.rsplit("|", 2)
        job, _, task = one.partition("_")
        if len(fields) == 2 and names.get(job) == name:
            ended[job, task if task.isdecimal() else ""] = _end(*fields)
    return ended


def _end(state: str, exit_code: str) -> str:
    """Write how a task ended, from sacct's words; nothing where it completed."""
    word = state.partition(" ")[0]  # CANCELLED by 0
    if word == "COMPLETED":
        return ""
    if word not in OVER:
        return f"gone from the queue, {word} in the accounting"  # the controller forgot it
    code, _, signal = exit_code.partition(":")
    if word != "FAILED":
        return word
    how = f"signal {signal}" if signal not in ("", "0") else f"exit {code}" if code != "0" else ""
    return f"{word} {how}".strip()
