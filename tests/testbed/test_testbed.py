"""The one-machine SLURM: it runs jobs, preempts, requeues, and comes back from whatever was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from suite.errors import SteppeError
from tests.slurm.conftest import SIZES, need, owned
from tests.slurm.queue import detail, lose, states, submit, wait_for, wait_noted, wait_until
from tests.testbed import configuration, processes
from tests.testbed.cluster import Testbed

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.testbed", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def pids(testbed: Testbed) -> dict[str, int | None]:
    return dict(testbed.status().daemons)


def test_every_node_runs_a_task_and_all_of_them_at_once(calm: Testbed) -> None:
    told = calm.ask("srun", "--nodes=4", "--ntasks=4", "bash", "-c", "echo $SLURMD_NODENAME")
    assert sorted(told.split()) == ["n1", "n2", "n3", "n4"]


def test_each_job_is_given_its_own_gpus(calm: Testbed, tmp_path: Path) -> None:
    show = "echo ${CUDA_VISIBLE_DEVICES-unset}"
    assert calm.ask("srun", "bash", "-c", show).strip() == "unset"
    assert calm.ask("srun", "--gres=gpu:2", "bash", "-c", show).strip() == "0,1"
    hold = f"{show} > $SLURM_JOB_ID.gpu; until [ -e go ]; do sleep 0.1; done"
    first, second, third = (submit(calm, tmp_path, hold, "--nodelist=n2", "--gres=gpu:1") for _ in range(3))
    wait_until(lambda: len(list(tmp_path.glob("*.gpu"))) == 2, "two jobs on the node's two GPUs")
    told = {(tmp_path / f"{job}.gpu").read_text().strip() for job in (first, second)}
    assert told == {"0", "1"}
    assert states(calm)[str(third)] == "PENDING"
    (tmp_path / "go").touch()
    wait_for(calm, third, "COMPLETED")


def test_a_job_array_runs_as_many_at_once_as_it_may(calm: Testbed, tmp_path: Path) -> None:
    job = submit(calm, tmp_path, "touch $SLURM_ARRAY_TASK_ID.ran", "--array=0-7%4")
    tasks = {f"{job}_{i}" for i in range(8)}

    def ended() -> bool:  # other tests' jobs are remembered too, cancelled ones among them
        now = states(calm)
        return {now.get(task) for task in tasks} == {"COMPLETED"}

    wait_until(ended, "the array's end")
    assert sorted(path.name for path in tmp_path.glob("*.ran")) == [f"{i}.ran" for i in range(8)]


def test_an_array_above_the_limit_is_refused(calm: Testbed, tmp_path: Path) -> None:
    with pytest.raises(SteppeError, match="Invalid job array"):
        submit(calm, tmp_path, "true", f"--array=0-{SIZES['max_array_size']}")


WAIT_FOR_GO = "echo started >> starts; until [ -e go ]; do sleep 0.1; done"


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text().splitlines()) if (folder / "starts").exists() else 0


def test_the_high_partition_preempts_and_the_low_job_is_requeued(calm: Testbed, tmp_path: Path) -> None:
    low = submit(calm, tmp_path, WAIT_FOR_GO, "--partition=low", "--nodelist=n3", "--exclusive")
    wait_until(lambda: starts(tmp_path) == 1, "the low job's start")
    high = submit(calm, tmp_path, "true", "--partition=high", "--nodelist=n3", "--exclusive")
    wait_for(calm, high, "COMPLETED")
    assert detail(calm, low, "Restarts") == "1"
    assert states(calm)[str(low)] == "PENDING"


def test_a_requeued_job_starts_again_within_seconds(calm: Testbed, tmp_path: Path) -> None:
    job = submit(calm, tmp_path, WAIT_FOR_GO)
    wait_until(lambda: starts(tmp_path) == 1, "the first start")
    calm.ask("scontrol", "requeue", str(job))
    wait_until(lambda: starts(tmp_path) == 2, "the second start")  # WAIT_S is far below SLURM's usual 121 s
    assert detail(calm, job, "Restarts") == "1"


def test_a_job_leaves_a_node_that_goes_down_and_up_brings_the_node_back(
    calm: Testbed, tmp_path: Path
) -> None:
    job = submit(calm, tmp_path, WAIT_FOR_GO)
    wait_until(lambda: starts(tmp_path) == 1, "the job's start")
    node = detail(calm, job, "NodeList")
    lose(calm, node)
    assert calm.status().nodes[node].startswith("down")
    assert not calm.status().up
    wait_for(calm, job, "PENDING")
    assert calm.up().nodes[node] == "idle"


def test_up_on_a_running_testbed_changes_nothing(calm: Testbed) -> None:
    before = pids(calm)
    assert calm.up().up
    assert pids(calm) == before


def test_up_recovers_a_killed_controller_and_jobs_run_on(calm: Testbed, tmp_path: Path) -> None:
    job = submit(calm, tmp_path, WAIT_FOR_GO)
    wait_until(lambda: starts(tmp_path) == 1, "the job's start")
    wait_noted(calm, job)
    before = pids(calm)
    calm.kill("slurmctld")
    assert not calm.status().up
    calm.up()
    assert {name for name, pid in pids(calm).items() if pid != before[name]} == {"slurmctld"}
    (tmp_path / "go").touch()
    wait_for(calm, job, "COMPLETED")
    assert starts(tmp_path) == 1


def test_up_recovers_a_killed_slurmd_and_its_lost_job_is_requeued(calm: Testbed, tmp_path: Path) -> None:
    job = submit(calm, tmp_path, WAIT_FOR_GO, "--nodelist=n1")
    wait_until(lambda: starts(tmp_path) == 1, "the job's start")
    calm.kill("slurmd-n1", with_jobs=True)
    assert not processes.jobs(calm.folder)
    calm.up()
    wait_for(calm, job, "PENDING")


def test_a_job_survives_its_slurmd(calm: Testbed, tmp_path: Path) -> None:
    job = submit(calm, tmp_path, WAIT_FOR_GO, "--nodelist=n1")
    wait_until(lambda: starts(tmp_path) == 1, "the job's start")
    calm.kill("slurmd-n1")
    calm.up()
    (tmp_path / "go").touch()
    wait_for(calm, job, "COMPLETED")
    assert starts(tmp_path) == 1


def test_up_recovers_when_everything_was_killed(calm: Testbed) -> None:
    for name in pids(calm):
        calm.kill(name)
    assert calm.up().up
    assert calm.ask("srun", "hostname")


def test_two_testbeds_run_side_by_side_and_down_leaves_nothing(
    calm: Testbed, tmp_path_factory, tmp_path
) -> None:
    folder = tmp_path_factory.mktemp("second")
    with owned(folder) as second:
        done = command("up", f"--folder={folder}", "--nodes=1", "--gpus=0", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["up"]
        assert told["nodes"] == {"n1": "idle"}
        assert told["slurm_conf"] == str(folder / "slurm.conf")
        assert second.ask("srun", "bash", "-c", "echo $SLURM_CONF").strip() == told["slurm_conf"]
        job = submit(second, tmp_path, f"(setsid sleep 1234 &); {WAIT_FOR_GO}")
        wait_until(lambda: starts(tmp_path) == 1, "the job's start")
        assert processes.jobs(folder)

        down = command("down", f"--folder={folder}", "--json")
        assert set(json.loads(down.stdout)["stopped"]) == told["daemons"].keys()
        assert not processes.daemons(folder)
        assert not processes.jobs(folder)
        assert command("down", f"--folder={folder}").stdout == "stopped: nothing ran\n"
        assert calm.status().up

        again = command("up", f"--folder={folder}", "--nodes=2")  # other sizes, what was stored kept
        assert again.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
        assert second.status().nodes.keys() == {"n1", "n2"}
        wait_for(second, job, "PENDING")  # `down` took it away, and it is to run again
        assert command("down", f"--folder={folder}", "--purge").returncode == 0
        assert not folder.exists()


def test_a_daemon_that_does_not_come_up_is_named_with_its_last_words(tmp_path_factory, monkeypatch) -> None:
    need()
    texts = configuration.texts
    broken = {"slurm.conf": "NoSuchKey=1\n"}
    monkeypatch.setattr(
        configuration, "texts", lambda *its: {k: text + broken.get(k, "") for k, text in texts(*its).items()}
    )
    with owned(tmp_path_factory.mktemp("broken")) as testbed:
        with pytest.raises(
            SteppeError, match=r"^slurmctld ended with 1; the end of .*log:\n(.*\n)*.*NoSuchKey"
        ):
            testbed.up()
        monkeypatch.undo()
        assert testbed.up().up


@pytest.mark.parametrize("reached", ["munge/munge.key", "log/slurmctld.log"])
def test_an_up_that_was_killed_half_way_is_finished_by_the_next(tmp_path_factory, reached: str) -> None:
    need()
    folder = tmp_path_factory.mktemp("half")
    with owned(folder) as testbed:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.testbed", "up", f"--folder={folder}"], cwd=ROOT
        )
        wait_until((folder / reached).exists, reached)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert testbed.up().up
        assert testbed.ask("srun", "hostname")


def test_with_accounting_sacct_tells_of_finished_jobs(tmp_path_factory, tmp_path: Path) -> None:
    need(accounting=True)
    folder = tmp_path_factory.mktemp("accounts")
    with owned(folder) as testbed:
        assert testbed.up({"accounting": True, "nodes": 1}).up
        good, bad = submit(testbed, tmp_path, "true"), submit(testbed, tmp_path, "exit 3")

        def told() -> set[str]:
            rows = testbed.ask("sacct", "-n", "-X", "-P", "-o", "JobID,State,ExitCode").splitlines()
            return set(rows)

        wait_until(lambda: {f"{good}|COMPLETED|0:0", f"{bad}|FAILED|3:0"} <= told(), "sacct on both jobs")
        for name in pids(testbed):
            testbed.kill(name)
        assert testbed.up().up
        assert f"{bad}|FAILED|3:0" in told()
        testbed.down()
        assert not processes.daemons(folder)
