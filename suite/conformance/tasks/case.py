"""A task entry with some of its parameters overridden, and its problems, models and batches to be judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suite.batch import Batch
from suite.conformance.check import Broken
from suite.conformance.tasks.standin import stand_in
from suite.data.choose import choose_data
from suite.data.dataset import Data
from suite.problem import Evaluation, Problem, Setting, Splits
from suite.problems.image_task import ImageTask
from suite.seeds import Streams
from suite.space import Value
from suite.spec import resolve_params
from suite.task import Task, TaskSpec

EXAMPLES = 4
"""Examples on which a model is tried: enough for BatchNorm and for slices, few enough for large networks."""

BATCHES = 2
"""Batches of a split that are evaluated."""

DTYPES: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "fp32": (torch.float32, None),
    "tf32": (torch.float32, None),
    "bf16": (torch.float32, torch.bfloat16),
    "fp64": (torch.float64, None),
}
"""Of weights and of autocast, by precision; on a CPU tf32 is fp32."""


@dataclass(frozen=True)
class TaskCase:
    """One task entry in one setting."""

    entry: TaskSpec
    overrides: Mapping[str, Value | str]
    data_root: Path | None
    cache: Path | None
    data_name: str

    @cached_property
    def task(self) -> Task:
        """The task as declared."""
        params = resolve_params(self.entry.params, self.overrides, f"task {self.entry.name}")
        task: object = self.entry.make(**params)
        if not isinstance(task, Task):
            raise Broken(f"make returns a {type(task).__name__}, not a Task")
        return task

    @cached_property
    def judged(self) -> Task:
        """The task on the data that it is judged on: a task of images on a few made on the spot, whole."""
        task = self.task
        if not isinstance(task, ImageTask):
            return task
        dataset = task.data[0]
        size = task.batch_size or 2 * dataset.n_classes
        made = stand_in(dataset, 2 * size + size // 2 + dataset.n_classes, marked=False)
        return dataclasses.replace(task, data=(made,), n_drawn=None, n_validation=dataset.n_classes)

    @cached_property
    def data(self) -> Data:
        """The data set that it is judged on."""
        if self.judged is not self.task:
            return self.judged.data[0]
        return choose_data(self.task, self.data_root, self.data_name)

    @cached_property
    def splits(self) -> Splits:
        """All splits, none of them sealed: whether a test split is touched has a promise of its own."""
        return Splits(self.data, self.data_root, self.cache)

    def problem(self, seed: int = 0, precision: str = "", dtype: torch.dtype | None = None) -> Problem:
        """Make the task ready, in its own precision unless another one is asked for."""
        weights, autocast = DTYPES[precision or self.task.precisions[0]]
        if dtype is not None:
            weights, autocast = dtype, None
        setting = Setting(self.judged, self.data, self.splits, seed, dtype=weights, autocast=autocast)
        made: Problem = self.judged.problem(setting)
        return made

    def model(self, problem: Problem, seed: int = 0) -> nn.Module:
        """Build the problem's model as the engine does."""
        Streams(seed).seed_global("init")
        model: nn.Module = problem.model().to(problem.setting.dtype)
        return model.to(memory_format=problem.memory_format)

    def few(self, problem: Problem) -> Batch:
        """Return some examples of the first mini-batch; of a joint loss all of them."""
        batch = problem.batch(0)
        return batch.part(0, min(EXAMPLES, len(batch))) if self.task.separable else batch

    def evaluated(self, problem: Problem, split: str) -> Iterator[Batch]:
        """Yield a few examples of the first batches of a split; of a joint loss whole batches."""
        for batch in islice(type(problem).batches(problem, split), BATCHES):
            yield batch.part(0, min(EXAMPLES, len(batch))) if self.task.separable else batch

    @torch.no_grad()
    def evaluation(self, problem: Problem, model: nn.Module, split: str) -> Evaluation:
        """Evaluate a few examples of a split, whatever metrics come out."""
        return self.few_of_each(problem).evaluate(model.eval(), split)

    def few_of_each(self, problem: Problem) -> Problem:
        """Let a problem hand out what `evaluated` does, so that evaluation ends soon."""
        few: Any = lambda split: self.evaluated(problem, split)  # noqa: E731
        problem.batches = few  # type: ignore[method-assign]
        return problem
