"""What a cluster says of itself, and whether a profile fits it: asked before anything is written."""

from __future__ import annotations

import math
import os
import pwd
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slurm.client import absent, ask
from slurm.profiles import Profile
from suite.errors import SteppeError, unknown

_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_ANY = "any type"


@dataclass(frozen=True)
class NodeKind:
    """Nodes of a partition that are alike."""

    cpus: int
    memory_mb: int
    gpus: Mapping[str, int]
    """Number by type; a type that is not told is empty."""


@dataclass(frozen=True)
class Partition:
    """A partition as `sinfo` lists it."""

    name: str
    default: bool
    time_min: float
    """The longest time limit; infinite where there is none."""
    kinds: tuple[NodeKind, ...]


@dataclass(frozen=True)
class Cluster:
    """The limits of a cluster and what it is made of."""

    name: str
    max_array_size: int
    """Indices of a job array are below it."""
    max_job_count: int
    max_submit: int | None
    """Jobs that the user may have in the queue; None where that is not limited or not told."""
    in_queue: int
    """Jobs and array tasks that the scheduler holds, of everybody."""
    mine: int
    """Those of the user that are not over."""
    partitions: Mapping[str, Partition]

    @property
    def room(self) -> tuple[int, str]:
        """How many tasks can be submitted now, and the limit that says so."""
        count = self.max_job_count - self.in_queue
        rooms = [(count, f"MaxJobCount {self.max_job_count}, {self.in_queue} of them taken")]
        if self.max_submit is not None:
            why = f"MaxSubmitJobs {self.max_submit}, {self.mine} of them taken"
            rooms.append((self.max_submit - self.mine, why))
        return min(rooms)

    def targets(self, profile: Profile) -> list[Partition]:
        """Return the partitions that the profile's jobs may go to."""
        if not profile.partition:
            chosen = [each for each in self.partitions.values() if each.default]
            if not chosen:
                listed = ", ".join(sorted(self.partitions))
                raise SteppeError(
                    f"profile {profile.name} names no partition and the cluster has no default: add "
                    f"partition = one of {listed}"
                )
            return chosen
        for name in profile.partition.split(","):
            if name not in self.partitions:
                raise unknown("partition", name, self.partitions, f"profile {profile.name} names it")
        return [self.partitions[name] for name in profile.partition.split(",")]


def require() -> None:
    """Raise the error that says where to go on unless SLURM's commands are here."""
    for program in ("sbatch", "squeue", "sinfo", "scontrol"):
        if shutil.which(program) is None:
            raise absent(program)


def look(profile: Profile) -> Cluster:
    """Ask the cluster for its limits, partitions and queue."""
    lines = (line.partition("=") for line in ask("scontrol", "show", "config").splitlines())
    config = {key.strip(): value.strip() for key, equals, value in lines if equals}
    queue = ask("squeue", "--all", "--array", "--noheader", "--states=all", "--format=%u %T").split("\n")
    words = Counter(tuple(line.split()) for line in queue if line.strip())
    user = _user()
    accounted = config.get("AccountingStorageType", "").endswith("slurmdbd")
    return Cluster(
        name=config.get("ClusterName", ""),
        max_array_size=_array_size(config),
        max_job_count=_whole(config, "MaxJobCount", 10_000),
        max_submit=_max_submit(user, profile, config.get("ClusterName", "")) if accounted else None,
        in_queue=sum(words.values()),
        mine=sum(n for (owner, state), n in words.items() if owner == user and state in _WAITING_OR_RUNNING),
        partitions=_partitions(
            ask("sinfo", "--all", "--noheader", "--exact", "--format=%R|%P|%l|%c|%m|%G").splitlines()
        ),
    )


_WAITING_OR_RUNNING = (
    "PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
    "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT", "RESV_DEL_HOLD",
)  # fmt: skip


def _user() -> str:
    """Return the user as `squeue` names it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _array_size(config: Mapping[str, str]) -> int:
    """Return how many tasks an array may have: its largest index, or fewer by the scheduler's parameters."""
    size = _whole(config, "MaxArraySize", 1001)
    tasks = re.search(r"max_array_tasks=(\d+)", config.get("SchedulerParameters", ""))
    return min(size, int(tasks[1])) if tasks else size


def _whole(config: Mapping[str, str], key: str, default: int) -> int:
    text = config.get(key, "")
    return int(text) if text.isdecimal() else default


def _partitions(lines: Iterable[str]) -> dict[str, Partition]:
    found: dict[str, Partition] = {}
    for line in lines:
        name, marked, limit, cpus, memory, gres = line.split("|", 5)
        before = found.get(name)
        kind = NodeKind(_leading(cpus), _leading(memory), gpus_of(gres))
        found[name] = Partition(
            name,
            default=marked.endswith("*"),
            time_min=minutes_of(limit),
            kinds=(*(before.kinds if before else ()), kind),
        )
    return found


def _leading(text: str) -> int:
    digits = re.match(r"\d+", text.strip())
    return int(digits.group()) if digits else 0


def gpus_of(gres: str) -> dict[str, int]:
    """Read the GPUs from generic resources such as `gpu:a100:4(S:0-1),gpu:v100:2`."""
    found: Counter[str] = Counter()
    for piece in re.sub(r"\([^()]*\)", "", gres).split(","):
        name, *rest = piece.strip().split(":")
        if name == "gpu":
            count = rest[-1] if rest and rest[-1].isdecimal() else "1"
            found[":".join(rest[:-1] if rest and rest[-1].isdecimal() else rest)] += int(count)
    return dict(found)


def minutes_of(limit: str) -> float:
    """Read a time limit as SLURM writes it: `30:00`, `2:00:00`, `1-12:00:00`, `infinite`."""
    days, dash, clock = limit.strip().rpartition("-")
    pieces = clock.split(":")
    if not all(piece.isdecimal() for piece in pieces) or (dash and not days.isdecimal()):
        return math.inf
    numbers = [int(piece) for piece in pieces]
    if dash:  # days-hours, with minutes and seconds or without
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, minutes, seconds = (*([0] * (3 - len(numbers))), *numbers)[:3]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _max_submit(user: str, profile: Profile, cluster: str) -> int | None:
    """Return the limit on submitted jobs, of the user and of the profile's QOS; None where none is told.

    Of several associations the loosest counts, as it is not known here which of them a job will be of.
    """
    association = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}"]
    if cluster:
        association.append(f"cluster={cluster}")
    if profile.account:
        association.append(f"account={profile.account}")
    commands = [[*association, "format=MaxSubmitJobs"]]
    if profile.qos:
        quality = ["sacctmgr", "--noheader", "--parsable2", "show", "qos", f"name={profile.qos}"]
        commands.append([*quality, "format=MaxSubmitJobsPerUser"])
    limits = []
    for command in commands:
        try:
            answer = ask(*command, timeout_s=30)
        except SteppeError:  # not everybody may ask; sbatch itself says when a limit is reached
            continue
        rows = [line.strip("|") for line in answer.splitlines()]
        if rows and all(row.isdecimal() for row in rows):
            limits.append(max(map(int, rows)))
    return min(limits, default=None)


def check(profile: Profile, cluster: Cluster) -> None:
    """Raise the one-line error that says what of the profile the cluster lacks, and what it has."""
    targets = cluster.targets(profile)
    longest = max(each.time_min for each in targets)
    if profile.time_min > longest:
        raise SteppeError(
            f"profile {profile.name}: time_min = {profile.time_min} is over the limit of partition "
            f"{_names(targets)}; valid: up to {longest:g}"
        )
    kinds = [kind for each in targets for kind in each.kinds]
    _check_gpus(profile, cluster, kinds, targets)
    sizes = {
        "cpus": (profile.cpus * profile.processes, max((kind.cpus for kind in kinds), default=0), ""),
        "memory": (megabytes(profile.memory), max((kind.memory_mb for kind in kinds), default=0), "M"),
    }
    for key, (wanted, most, unit) in sizes.items():
        if wanted > most:
            raise SteppeError(
                f"profile {profile.name}: {key} = {getattr(profile, key)}{_times(profile, key)} is more than "
                f"any node of partition {_names(targets)} has; valid: up to {most}{unit}"
            )
    if not any(_fits(profile, kind) for kind in kinds):
        raise SteppeError(
            f"profile {profile.name}: no node of partition {_names(targets)} has {profile.gpus} GPUs, "
            f"{profile.cpus} CPUs and {profile.memory or 'its default'} of memory together; lower one"
        )


def _times(profile: Profile, key: str) -> str:
    return f" for each of {profile.processes} processes" if key == "cpus" and profile.processes > 1 else ""


def _check_gpus(
    profile: Profile, cluster: Cluster, kinds: Iterable[NodeKind], targets: list[Partition]
) -> None:
    most = max((_gpus(profile, kind) for kind in kinds), default=0)
    if profile.gpus > most:
        kind = f" of type {profile.gpu_type}" if profile.gpu_type else ""
        asked = f"{profile.gpus} GPU{'s' if profile.gpus > 1 else ''}{kind}"
        has = "; ".join(f"{each.name}: {_gpu_text(each)}" for each in cluster.partitions.values())
        raise SteppeError(
            f"profile {profile.name} asks for {asked} a task; no node of {_names(targets)} has that. "
            f"GPUs of a node, by partition: {has}"
        )


def _gpus(profile: Profile, kind: NodeKind) -> int:
    return kind.gpus.get(profile.gpu_type, 0) if profile.gpu_type else max(kind.gpus.values(), default=0)


def _fits(profile: Profile, kind: NodeKind) -> bool:
    enough = kind.cpus >= profile.cpus * profile.processes and kind.memory_mb >= megabytes(profile.memory)
    return enough and _gpus(profile, kind) >= profile.gpus


def _gpu_text(partition: Partition) -> str:
    most: dict[str, int] = {}
    for kind in partition.kinds:
        for name, count in kind.gpus.items():
            most[name] = max(count, most.get(name, 0))
    return ", ".join(f"{n} {name or f'of {_ANY}'}" for name, n in sorted(most.items())) or "none"


def megabytes(memory: str) -> float:
    """Read an amount of memory such as 16G; without a unit it is in MB, empty is 0."""
    if not memory:
        return 0.0
    return float(memory) if memory.isdecimal() else int(memory[:-1]) * _UNITS[memory[-1]]


def _names(partitions: Iterable[Partition]) -> str:
    return ",".join(each.name for each in partitions)
