"""The worker under SLURM: what its signals reach, and what is left behind for the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.store.folders import RunFolder, Store
from tests.slurm.queue import detail, wait_until
from tests.slurm.sweeps import LIMIT_S, TASK, Sweep
from tests.slurm.test_faults import in_peace, running
from tests.suite.track.conftest import offline_run
from tests.suite.track.stub import forget_keys
from tests.testbed.cluster import Testbed


@pytest.fixture(autouse=True)
def keyless(on_cluster: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and in the jobs."""
    forget_keys(tmp_path, monkeypatch)


@pytest.fixture
def pair(sweep: Sweep) -> Sweep:
    """Two runs, which one task runs side by side."""
    sweep.selectors = ("-t", TASK, "-o", "sgd", "-o", "sam", "--device", "cpu", "--checkpoint-s", "600")
    return sweep


def moving(sweep: Sweep) -> bool:
    """Whether both runs train."""
    return all(any(run.metrics()) for run in runs(sweep))


def runs(sweep: Sweep) -> list[RunFolder]:
    store = Store(sweep.store)
    return [store.run(run_id) for run_id in store.run_ids()]


def log(sweep: Sweep) -> str:
    """What the task printed, in all its starts."""
    (path,) = sweep.store.glob("slurm/*/0/*_log.out")
    return path.read_text()


def test_warned_by_slurm_it_saves_comes_back_and_leaves_whole_mirrors(pair: Sweep, tmp_path: Path) -> None:
    pair.submit("--wandb", "offline", "--workers", "2", memory="4G")
    wait_until(lambda: moving(pair), "two runs that train", LIMIT_S)
    task = running(pair, "%i")
    pair.testbed.ask("scancel", "--signal=USR2", task)  # to every process of the step
    pair.wait_done(2)
    assert detail(pair.testbed, int(task.partition("_")[0]), "Restarts") == "1"
    pair.check(in_peace(tmp_path / "peace", TASK, ["sgd", "sam"], [0]))
    for run in runs(pair):
        events = [(event["attempt"], event["event"]) for event in run.events()]
        assert (1, "stopped") in events
        assert (2, "resume") in events
        assert run.error() is None
    said = log(pair)
    assert f"job {task}, restart 0, node n" in said
    assert "SIGUSR2, a warning: saving at the next step" in said
    assert f"job {task}, restart 1, node n" in said
    assert said.rstrip().endswith("2 of 2 runs have their records")

    pair.steppe("wandb", "sync", "--wandb", "offline", "--plugin", pair.plugin)
    for run in runs(pair):
        mirrored = offline_run(Store(pair.store), run.run_id)
        assert [row["step"] for row in mirrored.rows] == [row["step"] for row in run.metrics()]
        assert (mirrored.summary["status"], mirrored.exit_code) == ("completed", 0)


def test_cancelled_it_saves_and_stays_away(pair: Sweep, tmp_path: Path) -> None:
    pair.submit("--wandb", "off", "--workers", "2", memory="4G")
    wait_until(lambda: moving(pair), "two runs that train", LIMIT_S)
    pair.testbed.ask("scancel", running(pair, "%i"))
    pair.wait_idle()
    assert "SIGTERM, the last call: saving at the next step" in log(pair)
    for run in runs(pair):
        assert run.status() == "interrupted"
        assert [*run.events()][-1]["event"] == "stopped"
        assert run.last_state() is not None
