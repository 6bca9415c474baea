"""Evaluation: loss and accuracy over batches, and BatchNorm re-estimation (protocol rule 18)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from suite.objective import Loss

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy (a fraction) over n examples, and which of them were right, in order."""

    loss: float
    accuracy: float
    correct: Tensor
    """Booleans (n,) on the CPU."""


@torch.no_grad()
def evaluate(
    model: nn.Module, loss: Loss, batches: Batches, autocast: torch.dtype | None = None
) -> Evaluation:
    """Evaluate in eval mode; the model comes back in the mode it was in.

    The loss is the mean over examples, summed over batches in float64.
    """
    training = model.training
    model.eval()
    losses: list[Tensor] = []
    correct: list[Tensor] = []
    for inputs, targets in batches:
        with torch.autocast(inputs.device.type, dtype=autocast, enabled=autocast is not None):
            outputs = model(inputs)
        losses.append(loss(outputs.float(), targets).double() * len(targets))
        correct.append(outputs.argmax(1) == targets)
    model.train(training)
    right = torch.cat(correct).cpu()
    return Evaluation(
        loss=float(torch.stack(losses).sum()) / len(right),
        accuracy=float(right.double().mean()),
        correct=right,
    )


@torch.no_grad()
def reestimate_batchnorm(model: nn.Module, batches: Batches, autocast: torch.dtype | None = None) -> int:
    """Replace BatchNorm's running statistics by those of one pass at the present weights.

    Mean and (unbiased) variance are averaged over the batches with equal weight, in place of the
    exponential average of training, which mixes clean, perturbed and part-of-batch statistics differently
    for every method. Other layers are in eval mode during the pass. Returns the number of
    examples passed forward, 0 for a model without BatchNorm.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        return 0
    n_examples = 0
    with _collecting(model, layers):
        for inputs, targets in batches:
            with torch.autocast(inputs.device.type, dtype=autocast, enabled=autocast is not None):
                model(inputs)
            n_examples += len(targets)
    return n_examples


@contextmanager
def _collecting(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    training = model.training
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.track_running_stats = True  # an optimizer's last pass may have switched it off
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(training)
