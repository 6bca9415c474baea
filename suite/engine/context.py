"""The fixed parts of a run, resolved from its spec before training: entries, problem and device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from suite import ENGINE, PROTOCOL
from suite.data.choose import choose_data
from suite.engine.precision import autocast_dtype, configure, dtype_of
from suite.entries.stored_run import StoredRun
from suite.errors import SteppeError
from suite.problem import Problem, Setting, Splits
from suite.seeds import Streams
from suite.spec import OptimizerSpec, RunSpec
from suite.task import Task, check_fit


@dataclass(frozen=True)
class Context:
    """The parts of a run that do not change while it trains."""

    spec: RunSpec
    task: Task
    entry: OptimizerSpec
    labels: dict[str, str]
    problem: Problem
    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None
    total_steps: int
    source_hashes: dict[str, str]


def prepare(run: StoredRun) -> Context:
    """Resolve the run's entries and data and configure the process; raises SteppeError on any mismatch."""
    spec = run.spec
    if (spec.engine, spec.protocol) != (ENGINE, PROTOCOL):
        raise SteppeError(
            f"run {spec.run_id} is of engine {spec.engine} and protocol {spec.protocol}, this code of "
            f"{ENGINE} and {PROTOCOL}: check out code of that engine, or specify the run again"
        )
    task, entry = run.task, run.optimizer
    check_fit(task, entry, spec.optimizer.params, spec.ranks, spec.precision)
    source_hashes = run.pin_entries()
    device = configure(spec)
    data = choose_data(task, run.data_root, spec.data)
    if data.source.checksum != spec.data_checksum:
        raise SteppeError(
            f"data set {data.name} has checksum {data.source.checksum[:12]}, but the run was specified "
            f"with {spec.data_checksum[:12]}: specify the run again"
        )
    dtype, autocast = dtype_of(spec), autocast_dtype(spec)
    splits = Splits(data, run.data_root, run.folder.store.root / "cache", sealed=task.tests)
    problem = task.problem(Setting(task, data, splits, spec.seed, device, dtype, autocast))
    declared = task.training_examples(data.name)
    if declared is not None and declared != problem.n_train:
        raise SteppeError(
            f"task {task.name} declares {declared} training examples on {data.name}, its problem has "
            f"{problem.n_train}: correct n_train"
        )
    return Context(
        spec=spec,
        task=task,
        entry=entry,
        labels=run.labels,
        problem=problem,
        device=device,
        dtype=dtype,
        autocast=autocast,
        total_steps=max(1, round(spec.epochs * problem.steps_per_epoch)),
        source_hashes=source_hashes,
    )


def build_model(context: Context) -> nn.Module:
    """Build the problem's model on the device, with initial weights from the run's `init` stream."""
    Streams(context.spec.seed).seed_global("init")
    problem = context.problem
    return problem.model().to(  # type: ignore[call-overload,no-any-return]
        context.device, context.dtype, memory_format=problem.memory_format
    )
