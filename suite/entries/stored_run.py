"""A run of a store with all that it takes to execute it."""

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
    """A run by its folder, the registry of its entries and the folder of its data; reads each thing once.

    Every property raises SteppeError where spec, entries and this code do not agree.
    """

    folder: RunFolder
    registry: Registry
    data_root: Path | None = None
    """Folder of the data sets; None where the task's data need none."""

    @cached_property
    def spec(self) -> RunSpec:
        """What the run is, from its folder."""
        return self.folder.spec()

    @cached_property
    def task(self) -> Task:
        """The task that the spec names, built."""
        return self.registry.resolve_task(self.spec.task)

    @cached_property
    def optimizer(self) -> OptimizerSpec:
        """The optimizer entry that the spec names."""
        return self.registry.resolve_optimizer(self.spec.optimizer)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Names of task and optimizer as tables show them, without parameters at their defaults."""
        declared = self.registry.task(self.spec.task.name).entry.params
        return {
            "task": self.spec.task.label(declared),
            "optimizer": self.spec.optimizer.label(self.optimizer.params),
        }

    def pin_entries(self) -> dict[str, str]:
        """Hold the built-in entries to the code that the store knows; return the source hash of each kind."""
        return self.registry.pin(self.spec, self.folder.store)
