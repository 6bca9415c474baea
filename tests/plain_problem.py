"""Classification of `inputs` by `targets` without a task: all that an objective asks of a problem."""

from typing import Any

from torch import Tensor, nn

from suite.objective import BatchObjective
from suite.problem import Batch, ClassificationLoss
from suite.seeds import Streams


class PlainClassification(ClassificationLoss):
    """Cross-entropy of what the model gives for `inputs`."""

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch.inputs)
        return outputs


def objective_of(model: nn.Module, seed: int = 0, **options: Any) -> BatchObjective:
    """An objective for plain classification; `load` binds its batches."""
    return BatchObjective(model, PlainClassification(), Streams(seed), **options)
