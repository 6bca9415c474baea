"""Whatever happens to a sweep on the cluster: `retry`, or nothing, completes it, and no byte differs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite.store.folders import Store
from suite.workers.pool import run_pool
from tests.slurm.campaign import ROOT, processes
from tests.slurm.fates import Fate, fate
from tests.slurm.queue import lose, wait_noted, wait_until
from tests.slurm.sweeps import LIMIT_S, TASK, Sweep
from tests.suite.runner import PLUGIN, make_run, tiny_specs
from tests.testbed.cluster import Testbed

LONG = "tiny[epochs=400]"
"""Takes over a minute as long as it goes slowly: six steps an epoch."""


def in_peace(folder: Path, task: str, optimizers: list[str], seeds: list[int]) -> dict[str, Fate]:
    specs = tiny_specs(optimizers, seeds, task)
    for spec in specs:
        make_run(folder, spec)
    result = run_pool(folder, [spec.run_id for spec in specs], workers=2, plugins=[PLUGIN])
    assert not result.errors
    return {spec.run_id: fate(Store(folder).run(spec.run_id)) for spec in specs}


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fate]:
    """The sweep that nothing happens to."""
    return in_peace(tmp_path_factory.mktemp("peace"), TASK, ["sgd", "sam"], [0, 1])


def kill(module: str, store: Path) -> None:
    os.kill(sorted(processes(module, store))[0], signal.SIGKILL)


def requeue(sweep: Sweep) -> None:
    sweep.testbed.ask("scontrol", "requeue", running(sweep, "%i"))


def lose_node(sweep: Sweep) -> None:
    lose(sweep.testbed, running(sweep, "%N"))


def restart_controller(sweep: Sweep) -> None:
    wait_noted(sweep.testbed, running(sweep, "%A"))
    sweep.testbed.kill("slurmctld")
    time.sleep(1.0)  # the cluster is without one for a while
    sweep.testbed.up()


def running(sweep: Sweep, what: str) -> str:
    return sweep.testbed.ask("squeue", "-h", "--array", "--states=R", "-o", what).split()[0]


@pytest.mark.parametrize("strike", [requeue, lose_node, restart_controller])
def test_what_slurm_mends_completes_by_itself(
    sweep: Sweep, peace: dict[str, Fate], strike: Callable[[Sweep], None]
) -> None:
    sweep.submit()
    sweep.wait_working()
    strike(sweep)
    sweep.wait_done(len(peace))
    sweep.check(peace)


@pytest.mark.parametrize("module", ["slurm.worker", "suite.workers.serve"])
def test_a_killed_process_is_made_good_by_retry(sweep: Sweep, peace: dict[str, Fate], module: str) -> None:
    sweep.submit()
    sweep.wait_working()
    kill(module, sweep.store)
    sweep.wait_idle()
    states = sweep.states()
    assert {"lost", "error"} & {*states.values()}, states
    sweep.steppe("retry")
    sweep.wait_idle()
    sweep.check(peace)


def test_a_time_limit_only_costs_a_new_start(sweep: Sweep, tmp_path: Path) -> None:
    sweep.selectors = ("-t", LONG, "-o", "sgd", "--device", "cpu", "--checkpoint-s", "600")
    sweep.submit(time_min=1, signal_s=45, pack=1)

    def begun_again() -> bool:
        return any(found.attempts > 1 for found in sweep.fates().values())

    wait_until(begun_again, "a second start after the warning of the limit", LIMIT_S)
    sweep.wait_done(1)
    sweep.check(in_peace(tmp_path / "peace", LONG, ["sgd"], [0]))


BROKEN = '''
"""SGD that raises while a file is there."""
import os
from pathlib import Path

from torch.optim import SGD

from suite.schedule import SHARED
from suite.spec import OptimizerSpec, Param


class Raising(SGD):
    def step(self, objective):
        if Path(os.environ["STEPPE_TEST_FAULT"]).exists():
            raise RuntimeError("a defect of the optimizer")
        return super().step(lambda: (self.zero_grad(), objective())[1])


OPTIMIZERS = [
    OptimizerSpec(
        name="raising",
        version="1",
        summary="raises",
        source="tests",
        params={**SHARED, "lr": Param(0.1, "learning rate", low=0)},
        cost=lambda hyper: 1.0,
        build=lambda params, hyper, context: Raising(params.tensors, lr=hyper["lr"]),
    )
]
'''


def test_an_exception_in_one_run_leaves_the_others_alone(
    on_cluster: Testbed, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, plugin = tmp_path / "fault", tmp_path / "raising.py"
    fault.touch()
    plugin.write_text(BROKEN)
    monkeypatch.setenv("STEPPE_TEST_FAULT", str(fault))  # jobs get the environment of who submits them
    selectors = ("-t", "tiny", "-o", "sgd", "-o", "raising", "--plugin", str(plugin), "--device", "cpu")
    sweep = Sweep(on_cluster, tmp_path / "store", selectors, capsys)
    sweep.submit()
    sweep.wait_idle()
    assert sorted(sweep.states().values()) == ["done", "error"]
    (run,) = [
        run
        for run in json.loads(sweep.steppe("status", "--json", code=None))["runs"]
        if run["status"] == "error"
    ]
    assert "a defect of the optimizer" in run["reason"]
    fault.unlink()
    sweep.steppe("retry", "--failed")
    sweep.wait_idle()
    assert sorted(sweep.states().values()) == ["done", "done"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Take all the room that the disk has."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    sweep: Sweep, small_disk: Path, peace: dict[str, Fate]
) -> None:
    sweep.store = small_disk / "store"
    sweep.submit()
    sweep.wait_working()
    filler = small_disk / "filler"
    fill(filler)
    wait_until(
        lambda: not list(processes("suite.workers.serve", sweep.store)), "all runs stopped by the disk", 120
    )
    filler.unlink()
    sweep.wait_idle()
    sweep.steppe("retry", code=None)  # what was published when the disk was full may be left to it
    sweep.wait_idle()
    sweep.check(peace)


KILLED = """
import os, signal, sys
from slurm import packing
from slurm.submission import Batch
from suite.cli import main
packing.CHUNK = 1  # a batch a task
Batch.set_job = lambda self, job: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_a_submitter_killed_half_way_is_followed_by_another(sweep: Sweep, peace: dict[str, Fate]) -> None:
    command = ["submit", *sweep.arguments(), "--store", str(sweep.store)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(sweep.testbed.ask("squeue", "-h", "--array", "-o", "%i").split()) == 1  # of two
    sweep.submit()
    sweep.submit()  # and once more, for nothing
    assert len(sweep.testbed.ask("squeue", "-h", "--array", "-o", "%i").split()) <= 2
    sweep.wait_idle()
    sweep.check(peace)
