"""What a run is made of before it trains: entries, data, batches and device, resolved from its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from suite.data.batches import TrainingBatches
from suite.data.choose import choose_dataset
from suite.data.dataset import Dataset
from suite.data.splits import TrainingData, training_data
from suite.errors import SteppeError
from suite.objective import Loss
from suite.precision import autocast_dtype, configure
from suite.registry import Registry
from suite.seeds import Streams
from suite.select import check_ranks
from suite.spec import OptimizerSpec, Param, RunSpec, Task
from suite.store import RunFolder, Store

LOSSES: dict[str, Loss] = {"cross_entropy": F.cross_entropy}
"""Base losses a task may name: mean over examples of (logits (n, C), targets (n,))."""


@dataclass(frozen=True)
class Context:
    """Everything of a run that does not change while it trains."""

    spec: RunSpec
    task: Task
    task_params: Mapping[str, Param]
    entry: OptimizerSpec
    dataset: Dataset
    data: TrainingData
    batches: TrainingBatches
    device: torch.device
    autocast: torch.dtype | None
    loss: Loss
    data_root: Path | None
    cache: Path
    total_steps: int
    source_hashes: dict[str, str]


def prepare(spec: RunSpec, folder: RunFolder, registry: Registry, data_root: Path | None) -> Context:
    """Resolve the spec's entries and data and set the process up; raises SteppeError on any disagreement."""
    task, entry = registry.resolve_task(spec.task), registry.resolve_optimizer(spec.optimizer)
    check_ranks(task, spec.ranks)
    store = Store(folder.path.parent.parent)
    source_hashes = registry.pin(spec, store)
    device = configure(spec)
    dataset = choose_dataset(task, data_root, spec.data)
    if dataset.source.checksum != spec.data_checksum:
        raise SteppeError(
            f"data set {dataset.name} has checksum {dataset.source.checksum[:12]}, but the run was specified "
            f"with {spec.data_checksum[:12]}: specify the run again"
        )
    cache = store.root / "cache"
    data = training_data(task, dataset, data_root, cache)
    batches = TrainingBatches(data, task, dataset, spec.seed, device)
    return Context(
        spec=spec,
        task=task,
        task_params=registry.task(spec.task.name).entry.params,
        entry=entry,
        dataset=dataset,
        data=data,
        batches=batches,
        device=device,
        autocast=autocast_dtype(spec),
        loss=LOSSES[task.loss],
        data_root=data_root,
        cache=cache,
        total_steps=max(1, round(spec.epochs * batches.steps_per_epoch)),
        source_hashes=source_hashes,
    )


def build_model(context: Context) -> nn.Module:
    """The task's model on the device, channels last, with the initial weights of the run's `init` stream."""
    Streams(context.spec.seed).seed_global("init")
    model = context.task.model()
    return model.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
