"""What a cluster says of itself, and what of a profile it lacks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from slurm import cluster
from slurm.cluster import Cluster, NodeKind, Partition, check, gpus_of, minutes_of
from slurm.profiles import Profile
from suite.errors import SteppeError
from tests.slurm.queue import submit
from tests.testbed.cluster import Testbed

CPU = NodeKind(cpus=64, memory_mb=256_000, gpus={})
A100 = NodeKind(cpus=32, memory_mb=128_000, gpus={"a100": 4})
V100 = NodeKind(cpus=16, memory_mb=64_000, gpus={"v100": 8})
MIXED = Cluster(
    name="mixed",
    max_array_size=1001,
    max_job_count=10_000,
    max_submit=None,
    in_queue=0,
    mine=0,
    partitions={
        "cpu": Partition("cpu", default=True, time_min=math.inf, kinds=(CPU,)),
        "gpu": Partition("gpu", default=False, time_min=1440.0, kinds=(CPU, A100, V100)),
    },
)


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("(null)", {}),
        ("gpu:2", {"": 2}),
        ("gpu", {"": 1}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:a100:4(S:0,2),gpu:v100:2(S:1),shard:8", {"a100": 4, "v100": 2}),
        ("craynetwork:4", {}),
    ],
)
def test_gpus_are_read_from_generic_resources(text: str, gpus: dict[str, int]) -> None:
    assert gpus_of(text) == gpus


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("infinite", math.inf),
        ("n/a", math.inf),
        ("30:00", 30),
        ("2:00:00", 120),
        ("1-12:00:00", 2160),
        ("7-00", 10_080),
    ],
)
def test_time_limits_are_read_as_slurm_writes_them(text: str, minutes: float) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize(
    "profile",
    [
        Profile(name="p"),
        Profile(name="p", cpus=64, memory="250G", time_min=10**6),
        Profile(name="p", partition="gpu", gpus=4, gpu_type="a100", cpus=32),
        Profile(name="p", partition="gpu", gpus=8, cpus=16),
        Profile(name="p", partition="cpu,gpu", gpus=1, time_min=1440),
        Profile(name="p", memory="0"),
    ],
)
def test_a_profile_that_fits_passes(profile: Profile) -> None:
    check(profile, MIXED)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (
            Profile(name="p", partition="gpus"),
            r"unknown partition 'gpus'; did you mean 'gpu'\? Valid: cpu, gpu",
        ),
        (
            Profile(name="p", partition="gpu", gpus=1, gpu_type="h100"),
            r"1 GPU of type h100 a task; no node of gpu has that.*cpu: none; gpu: 4 a100, 8 v100",
        ),
        (Profile(name="p", gpus=1), "asks for 1 GPU a task; no node of cpu has that"),
        (Profile(name="p", partition="gpu", gpus=9), "9 GPUs"),
        (Profile(name="p", partition="gpu", gpus=5, gpu_type="a100"), "5 GPUs of type a100"),
        (Profile(name="p", partition="gpu", time_min=1441), "time_min = 1441 is over.*up to 1440"),
        (Profile(name="p", cpus=65), "cpus = 65 is more than any node of partition cpu has; valid: up to 64"),
        (Profile(name="p", memory="1T"), "memory = 1T is more than any node of .*up to 256000M"),
        (
            Profile(name="p", partition="gpu", gpus=8, cpus=17),
            "8 GPUs, 17 CPUs and its default of memory together",
        ),
    ],
)
def test_what_the_cluster_lacks_is_said_with_what_it_has(profile: Profile, words: str) -> None:
    with pytest.raises(SteppeError, match=words):
        check(profile, MIXED)


def test_room_is_what_the_tightest_limit_leaves() -> None:
    def room(**changes: int) -> tuple[int, str]:
        return Cluster(**{**vars(MIXED), **changes}).room

    assert room(in_queue=9_000)[0] == 1000
    assert room(max_submit=500, mine=20) == (480, "MaxSubmitJobs 500, 20 of them taken")
    assert room(max_submit=500, mine=20, in_queue=9_990)[0] == 10


def test_the_testbed_is_seen_as_it_is(on_cluster: Testbed, tmp_path: Path) -> None:
    before = cluster.look(Profile(name="p"))
    submit(on_cluster, tmp_path, "sleep 60", "--hold", "--array=0-2")
    seen = cluster.look(Profile(name="p"))
    assert (seen.name, seen.max_array_size, seen.max_submit) == ("testbed", 101, None)
    assert (seen.mine, seen.in_queue - before.in_queue) == (3, 3)
    assert seen.partitions.keys() == {"low", "high"}
    low = seen.partitions["low"]
    assert low.default
    assert [(kind.cpus, dict(kind.gpus)) for kind in low.kinds] == [(4, {"": 2})]


def test_without_slurm_the_user_hears_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SteppeError, match=r"no `sbatch` on PATH.*steppe run.*tests\.testbed up"):
        cluster.require()


@pytest.mark.parametrize(
    ("profile", "limit"),
    [
        (Profile(name="p"), 37),
        (Profile(name="p", qos="long"), 12),
        (Profile(name="p", account="other"), None),
        (Profile(name="p", account="free"), None),
    ],
)
def test_limits_on_submitting_are_asked_of_the_accounting(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, limit: int | None
) -> None:
    def ask(*command: str, timeout_s: float = 60) -> str:
        if command[0] == "scontrol":
            return "ClusterName = c\nMaxArraySize = 5\nAccountingStorageType = accounting_storage/slurmdbd\n"
        if command[0] == "sacctmgr" and "account=other" in command:
            raise SteppeError("`sacctmgr` refused: Access denied")
        if command[0] == "sacctmgr":
            assert "qos" in command or "cluster=c" in command  # another cluster's limits are none of ours
            # Of two associations that a job may be of, the one that lets more in counts.
            rows = "37\n\n" if "account=free" in command else "5\n37\n"
            return "12\n" if "qos" in command else rows
        return ""

    monkeypatch.setattr(cluster, "ask", ask)
    seen = cluster.look(profile)
    assert (seen.max_submit, seen.max_array_size, seen.max_job_count) == (limit, 5, 10_000)


def test_the_scheduler_may_allow_fewer_tasks_than_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    config = "MaxArraySize = 1001\nSchedulerParameters = bf_interval=2,max_array_tasks=200\n"
    monkeypatch.setattr(cluster, "ask", lambda *command, **_: config if command[0] == "scontrol" else "")
    assert cluster.look(Profile(name="p")).max_array_size == 200
