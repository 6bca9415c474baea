"""Small synthetic problems for optimizers: milliseconds a step on one CPU thread."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.seeds import NormalStream

N_CLASSES = 5
BATCHES = (8, 8, 5)
"""Sizes of the mini-batches of one epoch; the last one is odd, and has fewer than 8 examples."""

STEPS = 2 * len(BATCHES)
"""Steps of two epochs."""


def conv_net() -> nn.Module:
    """Build a conv net with BatchNorm and dropout: 633 parameters, for inputs (n, 3, 6, 6)."""
    return nn.Sequential(*_layers(3, 6, 7, nn.Dropout(0.2)))


def late_net() -> nn.Module:
    """Build a conv net whose first layer does 1 % of its operations, for inputs (n, 3, 6, 6).

    A first layer has no gradient of its inputs, so its share affects the cost of a second derivative: a
    gradient and its derivative, reverse over reverse, cost 2.89 gradients on `conv_net` and 3.00 here.
    """
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), *_layers(4, 12, 12))


def _layers(channels: int, first: int, second: int, *between: nn.Module) -> list[nn.Module]:
    """Build two convolutions and a linear layer on the means of their channels."""
    normalised = [nn.Conv2d(channels, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
    plain = [nn.Conv2d(first, second, 3, padding=1), nn.ReLU()]
    return [
        *normalised,
        *between,
        *plain,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(second, N_CLASSES),
    ]


def logistic() -> nn.Module:
    """Multinomial logistic regression on inputs (n, 3, 6, 6): its loss is convex in its 545 weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, N_CLASSES))


class Projected(nn.Module):
    """Multinomial logistic regression on 6 fixed random projections of the inputs: 35 weights.

    For methods that use losses only: each step gives them the slope in a single direction.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.directions = nn.Buffer(torch.randn(3 * 6 * 6, 6, generator=generator) / 6**0.5)
        self.linear = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, 5) for inputs (n, 3, 6, 6)."""
        logits: Tensor = self.linear(x.flatten(1) @ self.directions)
        return logits


def examples(n: int, dtype: torch.dtype, layout: torch.memory_format) -> Batch:
    """Return inputs (n, 3, 6, 6) of norm about 3, scattered around one centre per class, and classes (n,)."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(n) % N_CLASSES
    centres = torch.randn(N_CLASSES, 3, 6, 6, generator=generator)
    noise = torch.randn(n, 3, 6, 6, generator=generator)
    inputs = 0.2 * centres[targets] + 0.2 * noise
    return Batch(inputs=inputs.to(dtype=dtype, memory_format=layout), targets=targets)


class EvenNoise(NormalStream):
    """A noise stream with one number per draw, so that the memory order of the weights does not matter."""

    def fill_(self, out: Tensor, *counters: int) -> Tensor:
        """Fill `out` with the one number of these counters."""
        number = super().fill_(torch.empty(1, dtype=torch.float64), *counters)
        return out.fill_(float(number))
