"""A stored run, with everything needed to execute it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from suite.entries.registry import Registry
from suite.spec import OptimizerSpec, RunSpec
from suite.store.folders import RunFolder
from suite.task import Task


@dataclass(frozen=True)
class StoredRun:
    """A run: its folder, the registry of its entries and the folder of its data. Reads each part once.

    Every property raises SteppeError if spec, entries and the present code disagree.
    """

    folder: RunFolder
    registry: Registry
    data_root: Path | None = None
    """Folder of the data sets; None if the task's data need no folder."""

    @cached_property
    def spec(self) -> RunSpec:
        """The run's spec, read from its folder."""
        return self.folder.spec()

    @cached_property
    def task(self) -> Task:
        """The task of the spec, built."""
        return self.registry.resolve_task(self.spec.task)

    @cached_property
    def optimizer(self) -> OptimizerSpec:
        """The optimizer entry of the spec."""
        return self.registry.resolve_optimizer(self.spec.optimizer)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Labels of task and optimizer in tables, without parameters at their defaults."""
        declared = self.registry.task(self.spec.task.name).entry.params
        return {
            "task": self.spec.task.label(declared),
            "optimizer": self.spec.optimizer.label(self.optimizer.params),
        }

    def pin_entries(self) -> dict[str, str]:
        """Pin the code of the built-in entries in the store; return the source hash of each kind."""
        return self.registry.pin(self.spec, self.folder.store)
