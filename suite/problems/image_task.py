"""Declaration of a task that classifies images that fit in memory. Loads no torch."""

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
    """A network that maps images (n, C, H, W) to logits (n, classes), trained by cross-entropy.

    Each image has one label. `model` is called without arguments after the global generator is seeded from
    the run's `init` stream.
    """

    data: tuple[Dataset, ...]
    model: Callable[[], nn.Module]
    n_validation: int
    n_drawn: int | None = None
    """Training images drawn from the set, equally many per class, validation included; None: all."""
    augment: tuple[str, ...] = ()
    """Batched augmentations in order, for instance ("crop:4", "flip")."""
    label_noise: float = 0.0
    """Fraction of the training and validation labels that are corrupted."""
    label_noise_kind: str = "incorrect"
    problem: Callable[[Any], Any] = _problem
    metrics: tuple[Metric, ...] = (ACCURACY, LOSS)

    def __post_init__(self) -> None:
        """Raise SteppeError if the declaration is inconsistent."""
        if self.label_noise and CLEAN not in self.extras:
            object.__setattr__(self, "extras", (*self.extras, CLEAN))
        if self.n_validation < 1:
            raise SteppeError(f"task {self.name}: n_validation is {self.n_validation}; valid: at least 1")
        super().__post_init__()

    def training_examples(self, data: str) -> int | None:
        """Return the number of images drawn, or of all images, minus the validation images."""
        whole = next((one.n_train for one in self.data if one.name == data), None)
        drawn = whole if self.n_drawn is None else self.n_drawn
        return None if drawn is None else drawn - self.n_validation
