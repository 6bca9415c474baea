"""Problems made of given tensors and a given loss, for the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.data.dataset import Generated
from suite.metric import ACCURACY, LOSS, Metric
from suite.problem import Classification, InMemory, Problem, Setting, Splits
from suite.sharpness import Point
from suite.task import Task

Losses = Callable[[Tensor, Tensor], Tensor]
"""Maps (outputs, targets) to the loss of each example (n,)."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


class Given(InMemory):
    """A problem with a given loss, without scores."""

    of: Losses

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        return self.of(outputs, batch.targets)


def make_task(splits: Mapping[str, Batch], kind: Callable[[Setting], Problem], **changes: Any) -> Task:
    others = [split for split in splits if split not in ("train", "validation")]
    given: dict[str, Any] = {
        "metrics": (LOSS,),
        "tests": tuple(others),
        "validation": "validation" if "validation" in splits else "",
        "epochs": 2,
        "batch_size": 8,
        "precisions": ("fp32", "tf32", "bf16", "fp64"),
    }
    data = (Generated("tests", lambda: splits),)
    return Task(
        name="tests", version="1", tier="smoke", summary="tests", data=data, problem=kind, **given | changes
    )


def make_problem(task: Task, dtype: torch.dtype = torch.float32, **setting: Any) -> Any:
    data = task.data[0]
    return task.problem(Setting(task, data, Splits(data, sealed=task.tests), dtype=dtype, **setting))


def given(inputs: Tensor, targets: Tensor, losses: Losses = cross_entropy, **changes: Any) -> Any:
    """Return a problem with these examples and this loss."""
    kind = type("Given", (Given,), {"of": staticmethod(losses)})
    task = make_task({"train": Batch(inputs=inputs, targets=targets)}, kind, **changes)
    return make_problem(task, inputs.dtype if inputs.is_floating_point() else torch.float32)


def classification(inputs: Tensor, targets: Tensor, **changes: Any) -> Any:
    """Return a classification problem with these examples: cross-entropy and accuracy."""
    metrics: tuple[Metric, ...] = (ACCURACY, LOSS)
    task = make_task(
        {"train": Batch(inputs=inputs, targets=targets)}, Classification, **{"metrics": metrics} | changes
    )
    return make_problem(task, inputs.dtype if inputs.is_floating_point() else torch.float32)


def point(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    seed: int,
    batch_size: int = 500,
    losses: Losses | None = None,
) -> Point:
    """Return the point at which measures are taken; the loss is cross-entropy unless `losses` is given."""
    problem = classification(inputs, targets) if losses is None else given(inputs, targets, losses)
    return Point(model, problem.train, problem, seed, batch_size)
