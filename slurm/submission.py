"""Submissions on disk, written before any job is submitted: batches of packs of runs.

    STORE/slurm/NAME/                 NAME is the time and a random suffix, so names sort by time
        submission.json               the configuration: profile, data, plugins and more for the workers
        key                           secret that authenticates the processes of a task to each other
        N/                            batch N, one job array, with its script and logs
            packs.json                the run ids of each array task, in the order of execution
            job                       the job id, once the cluster assigned it
            cancelled                 the numbers of the array tasks that `steppe cancel` removed, one a line

The job name identifies the batch, so a job is recognised in the queue even if the submitter was killed before
it wrote the job id. This module loads neither torch nor submitit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from slurm.profiles import Profile
from suite.errors import SteppeError
from suite.files import locked, make_folder, read_json, storing, write_whole

FOLDER = "slurm"
_PREFIX = "steppe-"
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_FIX = "delete its folder and submit again"

Pack = tuple[str, ...]
"""Run ids of one array task."""


class SubmissionConfig(Struct, frozen=True):
    """Configuration of a submission for the cluster and the workers."""

    command: str
    """The user's command line."""
    profile: Profile
    checkpoint_s: float = 60.0
    data: str | None = None
    """Absolute path of the data sets."""
    plugins: tuple[str, ...] = ()
    """Absolute paths of plugin files."""
    wandb: str = "off"
    """Mirror mode on the nodes: offline, online or off."""


class _Packs(Struct):
    """Content of packs.json."""

    packs: tuple[Pack, ...]


_T = TypeVar("_T")


def _read(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(read_json(path, _FIX), kind)
    except (FileNotFoundError, msgspec.ValidationError):
        raise SteppeError(f"{path} is missing or damaged: {_FIX}") from None


def _text(path: Path) -> str:
    """Read a small file; empty if it is missing or damaged."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass(frozen=True)
class Batch:
    """One job array of a submission."""

    folder: Path

    @property
    def number(self) -> int:
        """Index in the submission, from 0."""
        return int(self.folder.name)

    @property
    def submission(self) -> str:
        """Name of the submission."""
        return self.folder.parent.name

    @property
    def job_name(self) -> str:
        """Name of the job in the queue."""
        return f"{_PREFIX}{self.submission}.{self.number}"

    @cached_property
    def packs(self) -> tuple[Pack, ...]:
        """Run ids of each array task."""
        return _read(self.folder / "packs.json", _Packs).packs

    @property
    def job(self) -> str | None:
        """The job id; None before the submission, or if the submitter was killed before it wrote the id."""
        return _text(self.folder / "job").strip() or None

    def set_job(self, job: str) -> None:
        """Write the job id."""
        write_whole(self.folder / "job", job.encode())

    @property
    def cancelled(self) -> frozenset[int]:
        """Numbers of the array tasks that the user cancelled; a requeued one ends at once."""
        lines = _text(self.folder / "cancelled").split()
        return frozenset(int(line) for line in lines if line.isdecimal())

    def cancel(self, tasks: Iterable[int]) -> None:
        """Mark these array tasks as cancelled."""
        numbers = sorted(self.cancelled.union(tasks))
        write_whole(self.folder / "cancelled", "".join(f"{number}\n" for number in numbers).encode())


@dataclass(frozen=True)
class Submission:
    """One call of `steppe submit` or `steppe retry`."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the submission; names sort by time."""
        return self.folder.name

    @cached_property
    def config(self) -> SubmissionConfig:
        """Content of submission.json."""
        return _read(self.folder / "submission.json", SubmissionConfig)

    @property
    def key(self) -> str:
        """Secret of the submission, in a file that only its owner can read."""
        if key := _text(self.folder / "key"):
            return key
        raise SteppeError(f"{self.folder / 'key'} is missing or cannot be read: {_FIX}")

    @property
    def batches(self) -> list[Batch]:
        """Job arrays of the submission, in order."""
        names = sorted(int(name) for name in os.listdir(self.folder) if name.isdecimal())
        return [Batch(self.folder / str(number)) for number in names]


def create(root: Path, config: SubmissionConfig, batches: Sequence[Sequence[Pack]]) -> Submission:
    """Write a submission atomically, before any of its jobs is submitted."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}"
    fresh, final = root / FOLDER / f".{name}", root / FOLDER / name
    for number, packs in enumerate(batches):
        make_folder(fresh / str(number))
        write_whole(fresh / str(number) / "packs.json", msgspec.json.encode(_Packs(tuple(packs))))
    write_whole(fresh / "submission.json", msgspec.json.format(msgspec.json.encode(config), indent=1))
    write_whole(fresh / "key", secrets.token_hex(16).encode(), mode=0o600)
    with storing(final):
        os.rename(fresh, final)
    return Submission(final)


def submissions(root: Path) -> list[Submission]:
    """List the submissions of the store at `root`, oldest first."""
    try:
        names = sorted(name for name in os.listdir(root / FOLDER) if _NAME.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    listed = [Submission(root / FOLDER / name) for name in names]
    return [one for one in listed if one.folder.is_dir()]  # a refused submission is deleted


@contextlib.contextmanager
def exclusive(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Exclusive lock on a store, held while submitting or cancelling.

    SLURM's commands inherit it (see `client.ask`), so that if this process is killed, the lock lasts until a
    running `sbatch` has ended.
    """
    busy = "somebody else is submitting or cancelling in this store"
    with locked(root / FOLDER / "lock", say, busy) as descriptor:
        os.set_inheritable(descriptor, True)
        yield


def taken(root: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with (root / FOLDER / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def batch_of(job_name: str) -> tuple[str, int] | None:
    """Parse submission name and batch number from a job name; None for a foreign job."""
    name, _, number = job_name.removeprefix(_PREFIX).rpartition(".")
    ours = job_name.startswith(_PREFIX) and _NAME.fullmatch(name) and number.isdecimal()
    return (name, int(number)) if ours else None
