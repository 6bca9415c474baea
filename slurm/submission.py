"""What was submitted, on disk before the cluster hears of it: batches of packs of runs.

    STORE/slurm/NAME/                 NAME is the time and a random tail, so that names sort by time
        submission.json               its config: profile, data, plugins, what every worker needs
        key                           a secret by which the processes of a task know each other
        N/                            batch N, one job array; its folder holds script and logs
            packs.json                the run ids of each array task, in the order in which they run
            job                       the job's id, once the cluster gave it
        cancelled                 the numbers of the array tasks that `steppe cancel` took back, a line each

A batch's job name tells which batch it is, so that a job is recognised in the queue even if whoever submitted
it was killed before writing down its id. Nothing here loads torch or submitit.
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
    """What a submission asks of the cluster, and what its workers need to know besides their runs."""

    command: str
    """What the user typed."""
    profile: Profile
    checkpoint_s: float = 60.0
    data: str | None = None
    """Absolute path of the data sets."""
    plugins: tuple[str, ...] = ()
    """Absolute paths of plugin files."""
    wandb: str = "off"
    """Mirror mode on the nodes: offline, online or off."""


class _Packs(Struct):
    """The file packs.json of a batch."""

    packs: tuple[Pack, ...]


_T = TypeVar("_T")


def _read(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(read_json(path, _FIX), kind)
    except (FileNotFoundError, msgspec.ValidationError):
        raise SteppeError(f"{path} is missing or damaged: {_FIX}") from None


def _text(path: Path) -> str:
    """Read a small file; nothing where it is not there, or damaged."""
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
        """Its place in the submission, from 0."""
        return int(self.folder.name)

    @property
    def submission(self) -> str:
        """The submission's name."""
        return self.folder.parent.name

    @property
    def job_name(self) -> str:
        """What the queue calls it."""
        return f"{_PREFIX}{self.submission}.{self.number}"

    @cached_property
    def packs(self) -> tuple[Pack, ...]:
        """The run ids of each array task."""
        return _read(self.folder / "packs.json", _Packs).packs

    @property
    def job(self) -> str | None:
        """The job's id; None while the cluster gave none, or whoever submitted it was killed just then."""
        return _text(self.folder / "job").strip() or None

    def set_job(self, job: str) -> None:
        """Write down the id that the cluster gave."""
        write_whole(self.folder / "job", job.encode())

    @property
    def cancelled(self) -> frozenset[int]:
        """The array tasks that the user took back: they must not come back by themselves."""
        lines = _text(self.folder / "cancelled").split()
        return frozenset(int(line) for line in lines if line.isdecimal())

    def cancel(self, tasks: Iterable[int]) -> None:
        """Write down that the user takes these array tasks back."""
        numbers = sorted(self.cancelled.union(tasks))
        write_whole(self.folder / "cancelled", "".join(f"{number}\n" for number in numbers).encode())


@dataclass(frozen=True)
class Submission:
    """One call of `steppe submit` or `steppe retry`."""

    folder: Path

    @property
    def name(self) -> str:
        """Its name, which sorts by time."""
        return self.folder.name

    @cached_property
    def config(self) -> SubmissionConfig:
        """What its workers need to know."""
        return _read(self.folder / "submission.json", SubmissionConfig)

    @property
    def key(self) -> str:
        """A secret that only its owner can read."""
        if key := _text(self.folder / "key"):
            return key
        raise SteppeError(f"{self.folder / 'key'} is missing or cannot be read: {_FIX}")

    @property
    def batches(self) -> list[Batch]:
        """Its job arrays in order."""
        names = sorted(int(name) for name in os.listdir(self.folder) if name.isdecimal())
        return [Batch(self.folder / str(number)) for number in names]


def create(root: Path, config: SubmissionConfig, batches: Sequence[Sequence[Pack]]) -> Submission:
    """Write a submission whole, before anything of it is handed to the cluster."""
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
    found = [Submission(root / FOLDER / name) for name in names]
    return [one for one in found if one.folder.is_dir()]  # one that is refused is taken back


@contextlib.contextmanager
def exclusive(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the store at `root`: one process at a time changes what of it is in the queue.

    SLURM's commands inherit it (see `client.ask`): should this process be killed, it lasts until the `sbatch`
    that goes on without it has ended, too.
    """
    busy = "somebody else is submitting or cancelling in this store"
    with locked(root / FOLDER / "lock", say, busy) as descriptor:
        os.set_inheritable(descriptor, True)
        yield


def taken(root: Path) -> bool:
    """Whether somebody holds the lock just now."""
    try:
        with (root / FOLDER / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def batch_of(job_name: str) -> tuple[str, int] | None:
    """Read submission and batch number from a job's name; None where it is none of ours."""
    name, _, number = job_name.removeprefix(_PREFIX).rpartition(".")
    ours = job_name.startswith(_PREFIX) and _NAME.fullmatch(name) and number.isdecimal()
    return (name, int(number)) if ours else None
