"""The point at which sharpness is measured. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from suite.batch import Batch
    from suite.problem import Problem


@dataclass(frozen=True)
class Point:
    """The point in weight space, and the data, at which all measures of a run are taken (protocol rule 26).

    `model` holds the final weights and re-estimated BatchNorm statistics, in eval mode; `batch` is the fixed
    seeded subset of the training examples without augmentation, on the model's device and in its dtype. The
    loss is that of `problem`, without weight decay. `seed` is that of the run: probes and noise come from its
    stream `measure`. A forward pass has at most `batch_size` examples; the groups of a joint loss have
    exactly that size.
    """

    model: nn.Module
    batch: Batch
    problem: Problem
    seed: int
    batch_size: int = 500

    @property
    def separable(self) -> bool:
        """Whether the loss is a mean over examples."""
        return self.problem.task.separable

    def group(self, size: int) -> int:
        """Return the size of groups of examples for a measure that requests `size`."""
        return min(size, self.batch_size) if self.separable else self.batch_size


@dataclass(frozen=True)
class SubsetLoss:
    """The metrics on the n examples that the measures use, including the loss (rule 27)."""

    metrics: Mapping[str, float]
    n: int

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self.metrics["loss"]
