"""Runs of several processes through the pool: the same bytes, whichever process is lost on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suite.entries.registry import Registry
from suite.entries.selection import Selection, arguments
from suite.errors import SteppeError
from suite.spec import RunSpec
from suite.store.folders import Store
from suite.workers.event_loop import PoolResult
from suite.workers.network import Place
from suite.workers.pool import run_pool
from tests.plugins.tiny import SLOW
from tests.suite.runner import PLUGIN, make_run, tiny_specs
from tests.suite.workers.test_sweep import deterministic

TWO = Place(ranks=2)
RAISES = """
import torch.distributed as dist
from baselines.sgd import OPTIMIZERS as BUILT_IN
from baselines.wrapper import Plain
from baselines.bases import make_base
from dataclasses import replace

class Raises(Plain):
    def evaluate(self, objective):
        if self.n_steps == 3 and dist.get_rank() == 1:
            raise ValueError("no more")
        return objective()

def build(params, hyper, context):
    return Raises(make_base(params, hyper))

OPTIMIZERS = [replace(BUILT_IN[0], name="raises", build=build)]
"""


def a_run(root: Path, optimizer: str = "sam", task: str = "tiny") -> RunSpec:
    spec = replace(tiny_specs([optimizer], [0], task)[0], ranks=2)
    make_run(root, spec)
    return spec


def run(
    root: Path, spec: RunSpec, on_event: Callable[[dict[str, Any]], None] = lambda _: None, **options: Any
) -> PoolResult:
    place = options.pop("place", TWO)
    return run_pool(
        root, [spec.run_id], workers=1, plugins=[PLUGIN], on_event=on_event, place=place, checkpoint_s=0,
        **options,
    )  # fmt: skip


def bytes_of(root: Path, spec: RunSpec) -> tuple[bytes, str]:
    metrics, record = deterministic(Store(root).run(spec.run_id))
    return metrics, record


def workers() -> list[int]:
    """Worker processes of this one, rank 0 first."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            parent = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
            command = Path("/proc", name, "cmdline").read_text()
        except OSError:
            continue
        if parent == os.getpid() and "suite.workers.serve" in command:
            found.append(int(name))
    return sorted(found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunSpec]:
    root = tmp_path_factory.mktemp("whole")
    spec = a_run(root)
    result = run(root, spec)
    assert (result.done, result.errors) == ([spec.run_id], {})
    return root, spec


def test_two_processes_make_one_record(whole: tuple[Path, RunSpec], tmp_path: Path) -> None:
    root, spec = whole
    folder = Store(root).run(spec.run_id)
    record = folder.record()
    assert record is not None
    assert record.status == "completed"
    assert record.spec.ranks == 2
    assert record.provenance.bit_exact
    assert record.provenance.origin.fingerprint.startswith("cpu: 2 x ")
    # 90 training images, 4 epochs, two gradients a step: what it costs is not a matter of who computes it.
    assert record.cost.sample_gradients == 2 * 4 * 90
    assert os.listdir(folder.path / "attempts") == ["1"]
    assert not (root / "logs").exists() or not os.listdir(root / "logs")


@pytest.mark.parametrize("signals", [("stop",), ("rank 0",), ("rank 1",)], ids=lambda s: s[0])
def test_whoever_is_lost_the_run_resumes_to_the_same_bytes(
    whole: tuple[Path, RunSpec], tmp_path: Path, signals: tuple[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = a_run(tmp_path)
    slow = tmp_path / "slow"
    slow.touch()
    monkeypatch.setenv(SLOW, str(slow))
    struck: list[int] = []

    def strike(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] >= 6 and not struck:
            struck.extend(workers())
            assert len(struck) == 2
            if signals == ("stop",):
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                os.kill(struck[int(signals[0][-1])], signal.SIGKILL)

    result = run(tmp_path, spec, strike)
    assert struck
    assert not any(Path("/proc", str(pid)).exists() for pid in struck)
    if signals == ("stop",):
        assert result.interrupted == [spec.run_id]
    else:
        whose = "rank 1: " if signals == ("rank 1",) else ""
        assert result.errors[spec.run_id].startswith(f"{whose}its worker process was killed by SIGKILL")
    slow.unlink()
    again = run(tmp_path, spec)
    assert (again.done, again.errors) == ([spec.run_id], {})
    assert bytes_of(tmp_path, spec) == bytes_of(*whole)


def test_what_another_process_raised_is_told(tmp_path: Path) -> None:
    plugin = tmp_path / "raises.py"
    plugin.write_text(RAISES)
    registry = Registry([PLUGIN, plugin])
    bad, good = (
        replace(Selection(["tiny"], [name], [0]).expand(registry)[0], ranks=2) for name in ("raises", "sgd")
    )
    for spec in (bad, good):
        make_run(tmp_path, spec)
    result = run_pool(tmp_path, [bad.run_id, good.run_id], workers=1, plugins=[PLUGIN, plugin], place=TWO)
    assert result.errors[bad.run_id].startswith("rank 1: ValueError: no more")
    assert "no more" in (tmp_path / "logs" / f"{bad.run_id}.1.log").read_text()
    assert result.done == [good.run_id]


def test_a_run_for_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    spec = a_run(tmp_path)
    result = run(tmp_path, spec, place=Place())
    assert result.errors[spec.run_id].startswith(
        "the run is for 2 ranks and here are 1: run it with --ranks 2"
    )


def test_ranks_are_part_of_a_run() -> None:
    alone = tiny_specs(["sgd"], [0])[0]
    several = replace(alone, ranks=2)
    assert several.run_id != alone.run_id
    assert arguments(several, Registry([PLUGIN]))[-4:-2] == ["--ranks", "2"]


@pytest.mark.parametrize("ranks", [0, 17])
def test_more_ranks_than_examples_are_refused(ranks: int) -> None:
    with pytest.raises(SteppeError, match=f"{ranks} ranks for task tiny; valid: 1 to 16"):
        Selection(["tiny"], ["sgd"], [0], ranks=ranks).expand(Registry([PLUGIN]))
