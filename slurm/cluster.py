"""Limits and partitions of a cluster, and the check that a profile fits them before anything is written."""

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
from slurm.state import OVER
from suite.errors import SteppeError, unknown

_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True)
class NodeKind:
    """Identical nodes of a partition."""

    cpus: int
    memory_mb: int
    gpus: Mapping[str, int]
    """Number by type; an unnamed type is the empty string."""

    def gpus_for(self, profile: Profile) -> int:
        """Return the node's number of GPUs of the profile's type."""
        kind = profile.gpu_type
        return self.gpus.get(kind, 0) if kind else max(self.gpus.values(), default=0)


@dataclass(frozen=True)
class Partition:
    """A partition as `sinfo` lists it."""

    name: str
    default: bool
    time_min: float
    """The longest time limit in minutes; infinity if the partition has none."""
    kinds: tuple[NodeKind, ...]


@dataclass(frozen=True)
class Cluster:
    """Limits, partitions and queue length of a cluster."""

    name: str
    max_array_size: int
    """Exclusive upper bound of the indices of a job array."""
    max_job_count: int
    max_submit: int | None
    """Jobs that the user may have in the queue; None if unlimited or unknown."""
    in_queue: int
    """Jobs and array tasks of all users that the scheduler knows."""
    mine: int
    """Unfinished jobs and array tasks of this user."""
    partitions: Mapping[str, Partition]

    @property
    def room(self) -> tuple[int, str]:
        """Number of tasks that can be submitted now, and a text that names the limit."""
        count = self.max_job_count - self.in_queue
        rooms = [(count, f"MaxJobCount {self.max_job_count}, {self.in_queue} of them taken")]
        if self.max_submit is not None:
            why = f"MaxSubmitJobs {self.max_submit}, {self.mine} of them taken"
            rooms.append((self.max_submit - self.mine, why))
        return min(rooms)

    def targets(self, profile: Profile) -> list[Partition]:
        """Return the partitions that the profile allows."""
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
    """Raise SteppeError unless SLURM's commands are on PATH."""
    for program in ("sbatch", "squeue", "sinfo", "scontrol"):
        if shutil.which(program) is None:
            raise absent(program)


def look(profile: Profile) -> Cluster:
    """Query the cluster's limits, partitions and queue."""
    lines = (line.partition("=") for line in ask("scontrol", "show", "config").splitlines())
    config = {key.strip(): value.strip() for key, equals, value in lines if equals}
    queue = ask("squeue", "--all", "--array", "--noheader", "--states=all", "--format=%u %T").split("\n")
    jobs = Counter(tuple(line.split()) for line in queue if line.strip())
    user = _user()
    name = config.get("ClusterName", "")
    accounted = config.get("AccountingStorageType", "").endswith("slurmdbd")
    tasks = re.search(r"max_array_tasks=(\d+)", config.get("SchedulerParameters", ""))
    size = _number(config.get("MaxArraySize", ""), 1001)
    return Cluster(
        name=name,
        max_array_size=min(size, int(tasks[1])) if tasks else size,
        max_job_count=_number(config.get("MaxJobCount", ""), 10_000),
        max_submit=_max_submit(user, profile, name) if accounted else None,
        in_queue=sum(jobs.values()),
        mine=sum(n for (owner, state), n in jobs.items() if owner == user and state not in OVER),
        partitions=_partitions(
            ask("sinfo", "--all", "--noheader", "--exact", "--format=%R|%P|%l|%c|%m|%G").splitlines()
        ),
    )


def _user() -> str:
    """Return the user name that `squeue` prints."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _number(text: str, default: int = 0) -> int:
    """Parse the leading digits of the text."""
    digits = re.match(r"\d+", text.strip())
    return int(digits[0]) if digits else default


def _partitions(lines: Iterable[str]) -> dict[str, Partition]:
    partitions: dict[str, Partition] = {}
    for line in lines:
        name, marked, limit, cpus, memory, gres = line.split("|", 5)
        kinds = partitions[name].kinds if name in partitions else ()
        kind = NodeKind(_number(cpus), _number(memory), gpus_of(gres))
        partitions[name] = Partition(name, marked.endswith("*"), minutes_of(limit), (*kinds, kind))
    return partitions


def gpus_of(gres: str) -> dict[str, int]:
    """Parse the GPUs, by type, of generic resources such as `gpu:a100:4(S:0-1),gpu:v100:2`."""
    gpus: Counter[str] = Counter()
    for piece in re.sub(r"\([^()]*\)", "", gres).split(","):
        name, *rest = piece.strip().split(":")
        if name == "gpu":
            count = int(rest.pop()) if rest and rest[-1].isdecimal() else 1
            gpus[":".join(rest)] += count
    return dict(gpus)


def minutes_of(limit: str) -> float:
    """Parse a time limit as SLURM writes it: `30:00`, `2:00:00`, `1-12:00:00`, `infinite`."""
    days, dash, clock = limit.strip().rpartition("-")
    pieces = clock.split(":")
    if not all(piece.isdecimal() for piece in pieces) or (dash and not days.isdecimal()):
        return math.inf
    numbers = [int(piece) for piece in pieces]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, minutes, seconds = (*([0] * (3 - len(numbers))), *numbers)[:3]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _max_submit(user: str, profile: Profile, cluster: str) -> int | None:
    """Return the smaller limit on submitted jobs of the user and of the profile's QOS; None if unknown.

    Of several associations the loosest counts, as it is unknown which one SLURM will charge a job to.
    """
    association = ["associations", f"user={user}", *([f"cluster={cluster}"] if cluster else [])]
    association += [f"account={profile.account}"] if profile.account else []
    questions = [[*association, "format=MaxSubmitJobs"]]
    questions += [["qos", f"name={profile.qos}", "format=MaxSubmitJobsPerUser"]] if profile.qos else []
    limits = []
    for question in questions:
        try:
            answer = ask("sacctmgr", "--noheader", "--parsable2", "show", *question, timeout_s=30)
        except SteppeError:  # the query may be forbidden; sbatch itself reports a limit that is reached
            continue
        rows = [line.strip("|") for line in answer.splitlines()]
        if rows and all(row.isdecimal() for row in rows):
            limits.append(max(map(int, rows)))
    return min(limits, default=None)


def check(profile: Profile, cluster: Cluster) -> None:
    """Raise SteppeError if the cluster cannot satisfy the profile; it names the key and the valid values.

    `sbatch` would also refuse such a job, but it names neither.
    """
    targets = cluster.targets(profile)
    kinds = [kind for each in targets for kind in each.kinds]
    names = ",".join(each.name for each in targets)
    cpus, memory_mb = profile.cpus * profile.processes, megabytes(profile.memory)
    times = f" for each of {profile.processes} processes" if profile.processes > 1 else ""
    lacks = f"is more than any node of partition {names} has"
    limits: list[tuple[str, float, list[float], str]] = [
        (
            f"time_min = {profile.time_min} is over the limit of partition {names}",
            profile.time_min,
            [each.time_min for each in targets],
            "",
        ),
        (f"cpus = {profile.cpus}{times} {lacks}", cpus, [kind.cpus for kind in kinds], ""),
        (f"memory = {profile.memory} {lacks}", memory_mb, [kind.memory_mb for kind in kinds], "M"),
    ]
    for text, wanted, there, unit in limits:
        if wanted > (most := max(there, default=0)):
            raise SteppeError(f"profile {profile.name}: {text}; valid: up to {most:.12g}{unit}")
    if all(kind.gpus_for(profile) < profile.gpus for kind in kinds) and profile.gpus:
        of_type = f" of type {profile.gpu_type}" if profile.gpu_type else ""
        has = "; ".join(f"{each.name}: {_gpu_text(each)}" for each in cluster.partitions.values())
        raise SteppeError(
            f"profile {profile.name} asks for {profile.gpus} GPU{'s' if profile.gpus > 1 else ''}{of_type} a "
            f"task; no node of {names} has that. GPUs of a node, by partition: {has}"
        )
    if not any(
        kind.cpus >= cpus and kind.memory_mb >= memory_mb and kind.gpus_for(profile) >= profile.gpus
        for kind in kinds
    ):
        raise SteppeError(
            f"profile {profile.name}: no node of partition {names} has {profile.gpus} GPUs, "
            f"{profile.cpus} CPUs and {profile.memory or 'its default'} of memory together; lower one"
        )


def _gpu_text(partition: Partition) -> str:
    most: Counter[str] = Counter()
    for kind in partition.kinds:
        most |= Counter(kind.gpus)  # the larger of both
    return ", ".join(f"{n} {name or 'of any type'}" for name, n in sorted(most.items())) or "none"


def megabytes(memory: str) -> float:
    """Parse an amount of memory such as 16G into MB, the default unit; empty is 0."""
    if not memory:
        return 0.0
    return float(memory) if memory.isdecimal() else int(memory[:-1]) * _UNITS[memory[-1]]
