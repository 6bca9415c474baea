"""Where sharpness is measured, and what a measure gives: a number with its errors. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (n, C) and classes (n,) for each example, (n,)."""
    from torch.nn import functional as F

    return F.cross_entropy(outputs, targets, reduction="none")


@dataclass(frozen=True)
class Point:
    """The point in weight space, and the data, at which all measures of a run are taken (protocol rule 26).

    `model` holds the final weights and re-estimated BatchNorm statistics, in eval mode; `inputs`
    (n, C, H, W) and `targets` (n,) are the fixed seeded subset of the training examples without
    augmentation, on the model's device and in its dtype (fp32 in every record). `seed` is the run's:
    probes and noise come from its stream `measure`. A pass takes at most `batch_size` examples at a time.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    seed: int
    batch_size: int = 500
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    """Loss of each example (n,) from outputs and targets, without weight decay."""


@dataclass(frozen=True)
class Estimate:
    """A measure's value, how it was estimated and how far it may be off.

    `se_probes` is the standard error over random probes or Monte-Carlo draws (of `lambda_max`, which has
    none, the residual); `se_examples` the one over examples, for the value on the
    distribution they were drawn from; None where it is not defined. Each measure's module says how.
    """

    value: float
    se_probes: float | None
    se_examples: float | None
    n: int
    """Examples of the subset."""
    probes: int
    """Random probes, Monte-Carlo draws or Lanczos iterations used."""
    estimator: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; numbers that are not finite become None."""
        out = asdict(self)
        for key in ("value", "se_probes", "se_examples"):
            if out[key] is not None and out[key] - out[key] != 0.0:
                out[key] = None
        return out


@dataclass(frozen=True)
class SubsetLoss:
    """Training loss and accuracy (a fraction) on the n examples that the measures use (rule 27)."""

    loss: float
    accuracy: float
    n: int
