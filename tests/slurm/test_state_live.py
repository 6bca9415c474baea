"""State, cancel and retry against a real SLURM: what its queue really shows, and that nothing runs twice."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from slurm import client, state
from slurm.profiles import Profile
from slurm.submission import Batch, SubmissionConfig, create, submissions
from suite.spec import RunSpec
from suite.status.scheduler import Placed
from suite.store.folders import Store
from tests.slurm.conftest import need, owned
from tests.slurm.fake_queue import handed, runs
from tests.slurm.queue import lose, submit, wait_for, wait_until
from tests.suite.cli.conftest import steppe
from tests.suite.runner import PLUGIN, make_run, tiny_specs
from tests.testbed.cluster import Testbed

ROOT = Path(__file__).resolve().parents[2]
HOLD = "until [ -e go ]; do sleep 0.1; done"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class Follower:
    """Looks at a run again and again, and remembers each state that it was seen in."""

    def __init__(self, store: Store, spec: RunSpec) -> None:
        self._root, self._run_id = store.root, spec.run_id
        self.seen: list[str] = []

    @property
    def placed(self) -> Placed:
        placed = state.look(self._root)[self._run_id]
        if self.seen[-1:] != [placed.state]:
            self.seen.append(placed.state)
        return placed

    def wait(self, wanted: str, what: str = "") -> Placed:
        wait_until(lambda: self.placed.state == wanted, what or f"a run that is {wanted}")
        return self.placed


def start(testbed: Testbed, batch: Batch, folder: Path, *options: str) -> int:
    """Submit a batch by hand, whose tasks wait for a file."""
    last = len(batch.packs) - 1
    return submit(testbed, folder, HOLD, f"--job-name={batch.job_name}", f"--array=0-{last}", *options)


def test_from_held_to_cancelled(on_cluster: Testbed, store: Store, tmp_path: Path) -> None:
    a, b, c = runs(0, 1, 2)
    batch = handed(store, [[a], [b, c]]).batches[0]
    first, second = Follower(store, a), Follower(store, b)
    assert first.placed.reason == "never reached the queue"
    job = start(on_cluster, batch, tmp_path, "--hold", "--requeue")
    placed = first.placed
    assert (placed.state, placed.reason, placed.hint) == (
        "pending",
        "JobHeldUser",
        f"scontrol release {job}_0",
    )
    assert batch.job == str(job)  # whoever submitted it did not come to write it down
    on_cluster.ask("scontrol", "release", str(job))
    assert first.wait("running").node in ("n1", "n2", "n3", "n4")
    second.wait("running")
    on_cluster.ask("scontrol", "requeue", f"{job}_1")
    assert second.wait("pending").job == f"{job}_1"
    answer = steppe("cancel", a.run_id, "--store", store.root)
    assert answer.code == 0
    assert first.wait("left").cancelled
    assert second.placed.state != "left"
    lines = steppe("status", "--store", store.root).lines
    assert "3 runs: 2 queued, 1 cancelled" in lines
    answer = steppe("cancel", "--store", store.root)
    assert answer.lines[0].endswith("with 2 runs to do")
    assert second.wait("left").cancelled
    assert steppe("cancel", "--store", store.root).out == "nothing is in the queue\n"
    assert (first.seen, second.seen) == (
        ["left", "pending", "running", "left"],
        ["running", "pending", "left"],
    )


def test_a_lost_node_is_not_the_end_of_a_task(on_cluster: Testbed, store: Store, tmp_path: Path) -> None:
    spec = runs(0)[0]
    follower = Follower(store, spec)
    start(on_cluster, handed(store, [[spec]]).batches[0], tmp_path, "--requeue")
    node = follower.wait("running").node
    lose(on_cluster, node)
    follower.wait("pending", "the task in the queue again")
    (tmp_path / "go").touch()
    follower.wait("left", "its end on another node")
    assert "left" not in follower.seen[:-1]
    assert not follower.placed.cancelled


def test_a_lost_node_is_the_end_where_nothing_is_requeued(
    on_cluster: Testbed, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "GRACE_S", 1.0)
    spec = runs(0)[0]
    follower = Follower(store, spec)
    start(on_cluster, handed(store, [[spec]]).batches[0], tmp_path, "--no-requeue")
    lose(on_cluster, follower.wait("running").node)
    assert follower.wait("left").reason == "NODE_FAIL"
    assert "1 run: 1 lost" in steppe("status", "--store", store.root).lines


def test_a_silent_controller(
    on_cluster: Testbed, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = re.sub(r"(?m)^(SlurmctldPort|MessageTimeout)=.*$", "", on_cluster.slurm_conf.read_text())
    conf = tmp_path / "slurm.conf"
    conf.write_text(f"{text}\nSlurmctldPort=9\nMessageTimeout=2\n")
    monkeypatch.setenv("SLURM_CONF", str(conf))
    handed(store, [runs(0)])
    answer = steppe("status", "--store", store.root)
    assert (answer.code, answer.lines[-1]) == (0, "1 run: 1 queued")
    assert answer.err.startswith("steppe: the state of the queue is unknown: SLURM does not answer")
    assert len(answer.err.splitlines()) == 1
    for command in ("retry", "cancel"):
        assert steppe(command, "--store", store.root).code == 2
    assert [one.batches[0].cancelled for one in submissions(store.root)] == [frozenset()]


def test_two_retries_at_once_hand_over_what_a_killed_submitter_left(
    on_cluster: Testbed, store: Store
) -> None:
    spec = tiny_specs(["sgd"], [0])[0]
    make_run(store.root, spec)
    profile = Profile("test", partition="low", memory="1500M", time_min=10, pack=1)
    config = SubmissionConfig("steppe submit", profile, plugins=(str(PLUGIN),))
    create(store.root, config, [[(spec.run_id,)]])  # and no sbatch
    dry = steppe("retry", "--dry-run", "--store", store.root)
    assert (dry.code, dry.out.count("#!/bin/bash")) == (0, 1)
    assert len(submissions(store.root)) == 1
    command = (sys.executable, "-c", "import sys; from suite.cli import main; sys.exit(main())")
    arguments = ("retry", "--store", str(store.root))
    both = [
        subprocess.Popen(
            [*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("submitted 1 run in 1 task" in text for text in told) == 1, told
    assert len(submissions(store.root)) == 2
    wait_until(lambda: store.run(spec.run_id).status() == "done", "its record")
    assert "1 run: 1 done" in steppe("status", "--store", store.root).lines
    assert steppe("retry", "--store", store.root).lines == ["nothing to retry"]


def test_what_the_queue_forgot_is_in_the_books(
    tmp_path_factory: pytest.TempPathFactory,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need(accounting=True)
    specs = runs(0, 1, 2, 3)
    batch = handed(store, [[spec] for spec in specs]).batches[0]
    with owned(tmp_path_factory.mktemp("cluster")) as testbed:
        testbed.up({"nodes": 1, "kill_wait": 2, "accounting": True})
        for name, value in testbed.environment().items():
            monkeypatch.setenv(name, value)
        script = "case $SLURM_ARRAY_TASK_ID in 0) exit 3;; 1) kill -9 $$;; *) sleep 60;; esac"
        options = (f"--job-name={batch.job_name}", "--array=0-3%1", "--mem=10", "--no-requeue")
        job = submit(testbed, tmp_path, script, *options)
        batch.set_job(str(job))
        wait_for(testbed, f"{job}_2", "RUNNING")
        testbed.ask("scancel", str(job))
        ask = client.ask

        def forgetful(*command: str, timeout_s: float = 60) -> str:  # SLURM itself takes a minute
            return "" if command[0] == "squeue" else ask(*command, timeout_s=timeout_s)

        monkeypatch.setattr(client, "ask", forgetful)

        def reasons() -> list[str]:
            return [state.look(store.root)[spec.run_id].reason for spec in specs]

        wanted = ["FAILED exit 3", "FAILED signal 9", "CANCELLED", "CANCELLED"]
        wait_until(lambda: reasons() == wanted, "the ends in the books")
        assert "4 runs: 2 lost, 2 cancelled" in steppe("status", "--store", store.root).lines
