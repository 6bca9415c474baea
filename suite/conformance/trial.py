"""Small problems on which an optimizer is tried: made on the spot, milliseconds a step on one CPU thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.objective import BatchObjective, Objective
from suite.parameters import Parameters
from suite.problem import ClassificationLoss
from suite.seeds import NormalStream, Streams
from suite.space import Value
from suite.spec import BuildContext, OptimizerSpec

N_CLASSES = 5
BATCHES = (8, 8, 5)
"""Sizes of the mini-batches of one epoch; the last one is odd, and smaller than 8 parts."""

EPOCHS = 2
STEPS = EPOCHS * len(BATCHES)

Snapshot = dict[str, Tensor]


def conv_net() -> nn.Module:
    """Build a conv net with BatchNorm and dropout: 633 parameters, for inputs (n, 3, 6, 6)."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Conv2d(6, 7, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(7, N_CLASSES),
    )


def late_net() -> nn.Module:
    """Build a conv net whose first layer does 1 % of its operations, for inputs (n, 3, 6, 6).

    A first layer has no gradient of its inputs, so that its share decides what a second derivative costs in
    gradients: a gradient and its derivative, reverse over reverse, cost 2.89 on `conv_net`, 3.00 here.
    """
    return nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, N_CLASSES),
    )


def logistic() -> nn.Module:
    """Multinomial logistic regression on inputs (n, 3, 6, 6): its loss is convex in its 545 weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, N_CLASSES))


class Projected(nn.Module):
    """Multinomial logistic regression on 6 fixed random projections of the inputs: 35 weights.

    For methods that see losses alone: what they learn of a gradient in a step is one direction of all.
    """

    directions: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("directions", torch.randn(3 * 6 * 6, 6, generator=generator) / 6**0.5)
        self.linear = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (n, 5) for inputs (n, 3, 6, 6)."""
        logits: Tensor = self.linear(x.flatten(1) @ self.directions)
        return logits


def examples(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make inputs (n, 3, 6, 6) around one centre a class, of norm about 3, and their classes (n,)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % N_CLASSES
    centres = torch.randn(N_CLASSES, 3, 6, 6, generator=generator)
    noise = torch.randn(n, 3, 6, 6, generator=generator)
    return 0.2 * centres[targets] + 0.2 * noise, targets


class EvenNoise(NormalStream):
    """A `perturb` stream of one number a draw, so that the order of the weights in memory does not matter."""

    def fill_(self, out: Tensor, *counters: int) -> Tensor:
        """Fill `out` with the number of these counters."""
        number = super().fill_(torch.empty(1, dtype=torch.float64), *counters)
        return out.fill_(float(number))


class Trial:
    """One optimizer at work on one small problem, with everything it draws fixed by `seed`."""

    def __init__(
        self,
        entry: OptimizerSpec,
        hyper: Mapping[str, Value],
        *,
        net: Callable[[], nn.Module] = conv_net,
        batches: tuple[int, ...] = BATCHES,
        seed: int = 0,
        total_steps: int = STEPS,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        even_noise: bool = False,
    ) -> None:
        self.needs = frozenset(entry.needs(hyper))
        self.streams = Streams(seed)
        self.streams.seed_global("init")
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = net().to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        self.parameters: list[nn.Parameter] = list(self.model.parameters())
        context = BuildContext(total_steps, (EvenNoise if even_noise else NormalStream)(seed))
        head = [module for module in self.model.modules() if isinstance(module, nn.Linear)][-1:]
        # A step takes an objective where torch's stub has a closure of floats.
        self.optimizer: Any = entry.build(Parameters.of(self.model, head), hyper, context)
        self._problem = ClassificationLoss()
        self.objective = BatchObjective(self.model, self._problem, self.streams)
        inputs, targets = examples(sum(batches))
        self._whole = Batch(inputs=inputs.to(dtype=dtype, memory_format=layout), targets=targets)
        self.sizes = (sum(batches),) if "full-batch" in self.needs else batches
        """Of the mini-batches of an epoch."""
        ends = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes))]
        self._batches = [self._whole[end - n : end] for n, end in zip(self.sizes, ends, strict=True)]
        self.done = 0

    def load(self) -> None:
        """Bind the next mini-batch and put everything outside the optimizer in a known state."""
        self.objective.load(self.done, self._batches[self.done % len(self._batches)])
        self.streams.seed_global("order", self.done)
        for p in self.parameters:
            p.grad = None

    def step(self, objective: Objective | None = None) -> Tensor:
        """One step on the next mini-batch; returns what the optimizer returns.

        `objective` is one around that of the trial, which looks at what the optimizer asks for.
        """
        self.load()
        return self.take(objective)

    def take(self, objective: Objective | None = None) -> Tensor:
        """Take a step on the mini-batch that is loaded."""
        with self.objective.metered() if "function" in self.needs else nullcontext():
            loss: Tensor = self.optimizer.step(self.objective if objective is None else objective)
        self.done += 1
        return loss

    def run(self, steps: int) -> Trial:
        """Take that many steps."""
        for _ in range(steps):
            self.step()
        return self

    def set_lr(self, factor: float) -> None:
        """Multiply the learning rate of every parameter group, as a schedule would."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def snapshot(self) -> Snapshot:
        """Copy weights and running statistics by name."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def weights(self) -> Snapshot:
        """Copy the weights by name."""
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}

    @torch.no_grad()
    def loss(self) -> float:
        """Mean loss at the present weights over all mini-batches, in training mode, without a meter."""
        return float(self._problem.loss(self._problem.forward(self.model, self._whole), self._whole))


def difference(one: Snapshot, other: Snapshot) -> str:
    """Where two snapshots differ most, in words; empty if they are equal bit for bit."""
    worst, where, count = -1.0, "", 0
    for name, value in one.items():
        if not torch.equal(value, other[name]):
            count += 1
            gap = float((value.double() - other[name].double()).abs().max())
            if not gap <= worst:
                worst, where = gap, name
    return f"{count} of {len(one)} tensors differ, most {where} (max |d| = {worst:.1e})" if count else ""
