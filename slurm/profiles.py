"""Profiles: the resources of an array task in a short TOML file, for `steppe submit --profile NAME`.

A name is looked up in the folder that STEPPE_PROFILES names, then in slurm/profiles/, which has an example
for each common set-up; a path names a file directly. The keys are the fields of `Profile`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from suite.errors import SteppeError, unknown

FOLDER = Path(__file__).parent / "profiles"
VARIABLE = "STEPPE_PROFILES"

RESERVED = frozenset((
    "array", "job-name", "output", "error", "open-mode", "signal", "dependency", "requeue", "no-requeue",
    "ntasks", "export", "wrap", "parsable", "test-only", "wait",
    "quiet", "clusters", "cluster-constraint", "chdir",
))  # fmt: skip
"""Options of sbatch that dispatch sets itself."""

_KEYS_OF = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint",
    "nodes": "nodes", "ntasks-per-node": "processes", "gres": "gpus", "gpus": "gpus", "gpus-per-node": "gpus",
    "cpus-per-task": "cpus", "mem": "memory", "time": "time_min",
}  # fmt: skip
"""Options of sbatch and the profile keys that set them."""

_SOME = Meta(ge=0, le=1024)


class Profile(Struct, frozen=True):
    """Resources of an array task, and the rules by which runs are packed into tasks."""

    name: str
    partition: str = ""
    """Empty is the cluster's default; of several, separated by commas, SLURM takes the first free one."""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    """Features that a node must have, as `sbatch --constraint` takes them."""
    nodes: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Nodes of a task."""
    processes: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Processes of a task on each node. If nodes x processes > 1, they are the ranks of every run."""
    gpus: Annotated[int, _SOME] = 0
    """GPUs of a task on each node."""
    gpu_type: str = ""
    """GPU type as listed by `sinfo -o %G`; empty is any."""
    cpus: Annotated[int, Meta(ge=1, le=100_000)] = 1
    """CPUs of each process."""
    memory: str = ""
    """Memory of a task on each node, with unit: 500M, 16G; empty is the partition's default."""
    time_min: Annotated[int, Meta(ge=1, le=10_000_000)] = 60
    """Time limit of a task in minutes. A longer run checkpoints, and its task is requeued."""
    max_running: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Maximum running tasks of one submission; 0 is no cap."""
    workers: Annotated[int, _SOME] = 0
    """Concurrent runs in a task; 0 is one per GPU, or one without GPUs."""
    pack_min: Annotated[float, Meta(ge=0, le=1_000_000)] = 15.0
    """Minutes up to which short runs are packed into one task."""
    pack: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Maximum runs per task, whatever their time; 0 packs by expected time."""
    signal_s: Annotated[int, Meta(ge=1, le=65_535)] = 120
    """Seconds before the time limit at which runs are signalled to checkpoint."""
    setup: tuple[str, ...] = ()
    """Shell lines that run first on the node, such as `module load cuda`."""
    python: str = ""
    """Command that starts Python on the node; empty is the submitting Python."""
    extra: dict[str, Any] = {}
    """Further options of sbatch: a text, a number, or true for an option without a value."""

    def __post_init__(self) -> None:
        for mistake in self._mistakes():
            raise SteppeError(f"profile {self.name}: {mistake}")

    def _mistakes(self) -> Iterator[str]:
        """Yield errors in values that have the right type and bounds."""
        if self.memory and not re.fullmatch(r"\d+[KMGT]?", self.memory):
            yield f"memory = {self.memory!r} is no amount; write 500M or 16G"
        if self.gpu_type and not self.gpus:
            yield f"gpu_type = {self.gpu_type!r} without gpus; add gpus = 1"
        if self.ranks > 1 and self.gpus not in (0, self.processes):
            yield (
                f"gpus = {self.gpus} for {self.processes} processes a node; each takes one: "
                f"valid: 0, {self.processes}"
            )
        if self.ranks > 1 and self.workers > 1:
            yield (
                f"workers = {self.workers}, but the {self.ranks} processes of a task share one run at a "
                f"time; valid: 0, 1"
            )
        if self.signal_s >= (s := 60 * self.time_min):
            yield f"signal_s = {self.signal_s} is not within time_min = {self.time_min}; valid: below {s}"
        for key, value in self.extra.items():
            if not re.fullmatch("[a-z][a-z0-9-]*", key):
                yield f"extra.{key} is no long option of sbatch; write nice, not --nice"
            if key in RESERVED:
                yield f"extra.{key} is set by dispatch itself; remove it"
            if key in _KEYS_OF:
                yield f"extra.{key} has a key of its own; use {_KEYS_OF[key]}"
            if value is False or not isinstance(value, str | int | float):
                yield f"extra.{key} = {value!r} is not a text, a number or true"
        texts = (self.partition, self.account, self.qos, self.constraint, self.gpu_type, self.python)
        for text in (*texts, *self.setup, *map(str, self.extra.values())):
            if "\n" in text:
                yield f"{text!r} has a line break in it; write it in one line"

    @property
    def ranks(self) -> int:
        """Number of processes that share a run."""
        return self.nodes * self.processes

    @property
    def device(self) -> str:
        """Device kind of its runs."""
        return "cuda" if self.gpus else "cpu"

    @property
    def side_by_side(self) -> int:
        """Number of concurrent runs in a task."""
        return 1 if self.ranks > 1 else self.workers or max(1, self.gpus)

    @property
    def usable_s(self) -> float:
        """Seconds of a task before the signal to checkpoint."""
        return 60.0 * self.time_min - self.signal_s


def checked(raw: Mapping[str, Any], where: str) -> Profile:
    """Validate a profile's keys and values; `where` names the profile in a SteppeError."""
    for key in raw:
        if key not in Profile.__struct_fields__:
            raise unknown(f"key in profile {where}", key, {*Profile.__struct_fields__} - {"name"})
    try:
        return msgspec.convert(raw, Profile)
    except msgspec.ValidationError as error:
        expected, _, location = str(error).partition(" - at `$.")
        key = re.split(r"\W", location)[0]
        raise SteppeError(f"profile {where}: {key} = {raw[key]!r}: {expected}") from None


def names() -> dict[str, Path]:
    """Return the file of every profile by name; one in STEPPE_PROFILES overrides a built-in one."""
    own = os.environ.get(VARIABLE)
    if own and not Path(own).is_dir():
        raise SteppeError(f"no folder {own}, which {VARIABLE} names; create it, or unset the variable")
    folders = [FOLDER, *([Path(own)] if own else [])]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load(name: str, **instead: int) -> Profile:
    """Read the profile of that name or path; `instead` overrides its keys."""
    path = Path(os.path.expanduser(name))  # Path.expanduser raises for an unknown ~user
    if path.suffix != ".toml" and os.sep not in name:
        known = names()
        if name not in known:
            hint = f"or the path of a TOML file; put your own into ${VARIABLE}/NAME.toml"
            raise unknown("profile", name, known, hint)
        path = known[name]
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise SteppeError(f"no profile {path}; there are: {', '.join(sorted(names()))}") from None
    except OSError as error:
        raise SteppeError(f"cannot read profile {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SteppeError(f"profile {path} is not TOML: {error}") from None
    if "name" in raw:
        raise SteppeError(f"profile {path}: its name is that of its file; remove the key name")
    return checked({**raw, **instead, "name": path.stem}, str(path))
