"""A task entry with some parameters overridden, and the problems, models and batches that judge it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.conformance.promise import Broken
from suite.conformance.tasks.fake_data import with_fake_images
from suite.data.choose import choose_data
from suite.data.dataset import Data
from suite.problem import Evaluation, Problem, Setting, Splits
from suite.problems.image_task import ImageTask
from suite.seeds import Streams
from suite.space import Value
from suite.spec import resolve_params
from suite.task import Task, TaskSpec

EXAMPLES = 4
"""Examples per model evaluation: enough for BatchNorm and for slices, few enough for large networks."""

BATCHES = 2
"""Evaluated batches of a split."""

MEASURED = 64
"""Approximate number of training examples, besides the mini-batch, that are compared for changes."""

DTYPES: dict[str, dict[str, Any]] = {"bf16": {"autocast": torch.bfloat16}, "fp64": {"dtype": torch.float64}}
"""Fields of `Setting` by precision; on a CPU tf32 is fp32."""


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
        """The task on the data on which it is judged; an `ImageTask` uses a few fake images."""
        task = self.task
        if not isinstance(task, ImageTask):
            return task
        n_classes = task.data[0].n_classes
        size = task.batch_size or 2 * n_classes
        fake = with_fake_images(task.data[0], 2 * size + size // 2 + n_classes)
        return dataclasses.replace(task, data=(fake,), n_drawn=None, n_validation=n_classes)

    @cached_property
    def data(self) -> Data:
        """The data set on which the task is judged."""
        fake = self.judged is not self.task
        return self.judged.data[0] if fake else choose_data(self.task, self.data_root, self.data_name)

    @cached_property
    def _splits(self) -> Splits:
        return self._read(self.data)

    def _read(self, data: Data, sealed: Collection[str] = ()) -> Splits:
        if self.judged is not self.task:
            return Splits(data, sealed=sealed)  # uncached: fake images of all sizes share one cache key
        return Splits(data, self.data_root, self.cache, sealed)

    def problem(
        self,
        seed: int = 0,
        precision: str = "",
        dtype: torch.dtype | None = None,
        data: Any = None,
        sealed: Collection[str] = (),
    ) -> Problem:
        """Build the task's problem, by default in the task's first precision and on `self.data`.

        Only the splits in `sealed` are sealed, as a separate promise covers reads of test splits.
        """
        task = self.judged if data is None else dataclasses.replace(self.judged, data=(data,))
        splits = self._splits if data is None else self._read(data, sealed)
        dtypes = {"dtype": dtype} if dtype else DTYPES.get(precision or self.task.precisions[0], {})
        setting = Setting(task, data or self.data, splits, seed, **dtypes)
        made: Problem = task.problem(setting)
        return made

    def model(self, problem: Problem) -> nn.Module:
        """Build the problem's model as the engine does."""
        Streams(0).seed_global("init")
        model: nn.Module = problem.model().to(problem.setting.dtype)
        return model.to(memory_format=problem.memory_format)

    def ready(self, dtype: torch.dtype | None = None) -> tuple[Problem, nn.Module, Batch]:
        """Return a problem, its model in eval mode and a few examples, in `dtype` if given."""
        problem = self.problem(dtype=dtype)
        model, batch = self.model(problem).eval(), self.few(problem.batch(0))
        return problem, model, batch.to(problem.device, dtype) if dtype else batch

    def exact(self) -> tuple[Problem, nn.Module, Batch, torch.dtype]:
        """Return the result of `ready` and its dtype: float64, or float32 if the task's code requires it."""
        problem, model, batch = self.ready(torch.float64)
        try:
            with torch.no_grad():
                problem.loss(problem.forward(model, batch), batch)
            return problem, model, batch, torch.float64
        except RuntimeError:  # torch raises it for a mismatch of dtypes
            return *self.ready(torch.float32), torch.float32

    def few(self, batch: Batch) -> Batch:
        """Return the first examples of a batch, or all of them for a joint loss."""
        return batch.part(0, min(EXAMPLES, len(batch))) if self.task.separable else batch

    def evaluated(self, problem: Problem, split: str) -> Iterator[Batch]:
        """Yield the first examples of the first batches of a split; whole batches for a joint loss."""
        yield from map(self.few, islice(type(problem).batches(problem, split), BATCHES))

    def shorten(self, problem: Problem) -> None:
        """Restrict the problem's splits to the examples of `evaluated`, to shorten evaluations."""
        few: Any = lambda split: self.evaluated(problem, split)  # noqa: E731
        problem.batches = few  # type: ignore[method-assign]

    @torch.no_grad()
    def evaluation(self, problem: Problem, model: nn.Module, split: str) -> Evaluation:
        """Evaluate a few examples of a split without checking the metrics."""
        self.shorten(problem)
        return problem.evaluate(model.eval(), split)


@contextmanager
def unchanged(who: str, problem: Problem, model: nn.Module, batch: Batch) -> Iterator[None]:
    """Raise `Broken` if the block, which calls the method `who`, changes the model or the examples."""
    before = _state(problem, model, batch)
    yield
    after = _state(problem, model, batch)
    for what, found in before.items():
        if after[what] != found:
            raise Broken(
                f"{who}() changes {what}: it may look at the model and at examples, and must leave them as "
                "they are; work on a copy"
            )


def _state(problem: Problem, model: nn.Module, batch: Batch) -> dict[str, object]:
    weights = dict(model.named_parameters())
    with torch.random.fork_rng(devices=[]):  # a separate promise covers draws from the global generator
        torch.manual_seed(0)
        measured = problem.measured(min(MEASURED, problem.task.measure_examples))
    kept = [value for name, value in model.state_dict().items() if name not in weights]
    return {
        "the weights": _digest(weights.values()),
        "the buffers of the model": _digest(one for one in kept if isinstance(one, Tensor)),
        "which parameters are trained": [p.requires_grad for p in model.parameters()],
        "the mode of a module": [
            (module.training, getattr(module, "track_running_stats", None)) for module in model.modules()
        ],
        "the mini-batch": batch.digest(),
        "the training examples": measured.digest(),
    }


def _digest(tensors: Iterable[Tensor]) -> str:
    total = hashlib.sha256()
    for one in tensors:
        total.update(one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
