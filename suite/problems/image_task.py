"""Classification of images that fit in memory, as a declaration. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suite.data.dataset import CLEAN, Dataset
from suite.errors import SteppeError
from suite.metric import ACCURACY, LOSS, Metric
from suite.task import Task

if TYPE_CHECKING:
    from torch import nn


def _problem(setting: Any) -> Any:
    from suite.problems.image_problem import ImageClassification  # loads torch

    return ImageClassification(setting)


@dataclass(frozen=True, kw_only=True)
class ImageTask(Task):
    """A network that gives logits (n, C) for images (n, C, H, W), trained by cross-entropy on one label each.

    `model` is called without arguments after the global generator was seeded with the run's `init` stream.
    """

    data: tuple[Dataset, ...]
    model: Callable[[], nn.Module]
    n_validation: int
    n_drawn: int | None = None
    """Training images drawn from the set, the same number of each class, validation included; None is all."""
    augment: tuple[str, ...] = ()
    """Batched augmentations in order, for instance ("crop:4", "flip")."""
    label_noise: float = 0.0
    """Share of the training and validation labels that are flipped."""
    label_noise_kind: str = "incorrect"
    problem: Callable[[Any], Any] = _problem
    metrics: tuple[Metric, ...] = (ACCURACY, LOSS)

    def __post_init__(self) -> None:
        """Raise SteppeError where the declaration does not fit together."""
        if self.label_noise and CLEAN not in self.extras:
            object.__setattr__(self, "extras", (*self.extras, CLEAN))
        if self.n_validation < 1:
            raise SteppeError(f"task {self.name}: n_validation is {self.n_validation}; valid: at least 1")
        super().__post_init__()

    def training_examples(self, data: str) -> int | None:
        """Return what is drawn, or all of the data set, less the validation images."""
        whole = next((one.n_train for one in self.data if one.name == data), None)
        drawn = whole if self.n_drawn is None else self.n_drawn
        return None if drawn is None else drawn - self.n_validation
