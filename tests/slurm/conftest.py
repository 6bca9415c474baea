"""A one-machine SLURM for the tests of this folder, brought up once; without SLURM they skip by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.store.folders import Store
from tests.slurm.fake_queue import FakeQueue, play
from tests.slurm.queue import cancel_all
from tests.slurm.sweeps import SMALL, Sweep
from tests.testbed import packages
from tests.testbed.cluster import Testbed
from tests.testbed.settings import MARKER

SIZES = {
    "nodes": 4,
    "cpus": 4,
    "gpus": 2,
    "grace": 0,
    "kill_wait": 2,
    "slurmd_timeout": 5,
    "max_array_size": 101,
}
UP = "python -m tests.testbed up --install"


def need(*, accounting: bool = False) -> None:
    """Skip the test that cannot have a testbed here; on a CI machine that is a failure."""
    names = packages.missing(accounting=accounting)
    why = f"not installed: {', '.join(names)}" if names else "not root" if os.geteuid() else ""
    if not why:
        return
    reason = f"no testbed SLURM here ({why}); as root: {UP}{' --accounting' if accounting else ''}"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def remove(testbed: Testbed) -> None:
    testbed.down(purge=(testbed.folder / MARKER).exists())


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[Testbed]:
    """A testbed that is taken down at the end; one whose tests were killed is taken down by later ones."""
    for note in {found.resolve() for found in folder.parents[1].glob("*/*.testbed-owner")}:
        if not Path("/proc", note.read_text()).exists():
            remove(Testbed(note.with_suffix("")))
            note.unlink()
    note = folder.with_name(f"{folder.name}.testbed-owner")
    note.write_text(str(os.getpid()))
    testbed = Testbed(folder)
    try:
        yield testbed
    finally:
        remove(testbed)
        note.unlink()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Nodes n1 to n4, each with 4 CPUs and 2 GPUs, partitions low (preempted) and high, no accounting."""
    need()
    with owned(tmp_path_factory.mktemp("cluster")) as testbed:
        testbed.up(SIZES)
        yield testbed


@pytest.fixture
def calm(cluster: Testbed) -> Iterator[Testbed]:
    """The same, whole and with an empty queue at the start, whatever the test before did to it."""
    if not cluster.status().up:
        cluster.up()
    cancel_all(cluster)
    yield cluster
    cancel_all(cluster)


@pytest.fixture
def on_cluster(calm: Testbed, monkeypatch: pytest.MonkeyPatch) -> Testbed:
    """The same, as the cluster of this process."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "SBATCH", "STEPPE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", str(calm.slurm_conf))
    return calm


@pytest.fixture
def sweep(
    on_cluster: Testbed, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Sweep:
    """A small sweep, not yet submitted, whose runs go slowly until their end is waited for."""
    sweep = Sweep(on_cluster, tmp_path / "store", SMALL, capsys)
    sweep.hold(monkeypatch)
    return sweep


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    """A queue that is no more than a list, in the place of SLURM's commands."""
    return play(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path)
