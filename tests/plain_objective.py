"""An objective for plain classification, without a task."""

from typing import Any

from torch import nn

from suite.objective import BatchObjective
from suite.problem import ClassificationLoss
from suite.seeds import Streams


def objective_of(model: nn.Module, seed: int = 0, **options: Any) -> BatchObjective:
    """Return the mean cross-entropy of the model's outputs for `inputs`; `load` binds a batch."""
    return BatchObjective(model, ClassificationLoss(), Streams(seed), **options)
