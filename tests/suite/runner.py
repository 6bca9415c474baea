"""Runs of the tiny task for the tests: created, trained here, or trained and killed in another process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from suite.engine.host import Host
from suite.entries.registry import Registry
from suite.entries.selection import Selection
from suite.entries.stored_run import StoredRun
from suite.records.schema import Sources
from suite.spec import RunSpec
from suite.store.folders import RunFolder, Store

PLUGIN = Path(__file__).parents[1] / "plugins" / "tiny.py"


def tiny_specs(optimizers: list[str], seeds: list[int], task: str = "tiny") -> list[RunSpec]:
    return Selection([task], optimizers, seeds).expand(Registry([PLUGIN]))


def sources_of(spec: RunSpec) -> Sources:
    """Return the current code hashes of a run's entries."""
    registry = Registry([PLUGIN])
    task, optimizer = registry.task(spec.task.name), registry.optimizer(spec.optimizer.name)
    return Sources(task.source_hash, optimizer.source_hash)


def make_run(root: Path, spec: RunSpec) -> RunFolder:
    folder = Store(root).run(spec.run_id)
    folder.write_spec(spec)
    return folder


def train(root: Path, run_id: str, plugin: Path = PLUGIN, **options: Any) -> str:
    from suite.engine.train import run_one

    return run_one(StoredRun(Store(root).run(run_id), Registry([plugin])), Host(**options))


def _train_and_die(root: Path, run_id: str, die_at: int, checkpoint_s: float, plugin: Path) -> None:
    """Train with checkpoints every `checkpoint_s`; send SIGKILL to this process during step `die_at`."""
    from suite.objective import BatchObjective

    load = BatchObjective.load

    def deadly(self: BatchObjective, step: int, batch: Any) -> None:
        load(self, step, batch)
        if step == die_at:
            self(0, 1)  # in the middle of a step: half of its gradient is computed
            os.kill(os.getpid(), signal.SIGKILL)

    BatchObjective.load = deadly  # type: ignore[method-assign]
    train(root, run_id, plugin, checkpoint_s=checkpoint_s)


def killed(root: Path, run_id: str, die_at: int, checkpoint_s: float, plugin: Path = PLUGIN) -> int | None:
    """Train the run in a new process until SIGKILL; return its exit code, -9 if it was killed."""
    context = multiprocessing.get_context("forkserver")
    # torch imports its compiler with the first optimizer, which takes seconds: once for all children here.
    context.set_forkserver_preload(["suite.engine.train", "suite.sharpness.lambda_max", "torch._dynamo"])
    process = context.Process(target=_train_and_die, args=(root, run_id, die_at, checkpoint_s, plugin))
    process.start()
    process.join(120)
    return process.exitcode
