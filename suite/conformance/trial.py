"""Small problems on which an optimizer is tried: made on the spot, milliseconds a step on one CPU thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.objective import BatchObjective
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


def logistic() -> nn.Module:
    """Multinomial logistic regression on inputs (n, 3, 6, 6): its loss is convex in the weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, N_CLASSES))


def examples(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make inputs (n, 3, 6, 6) around one centre a class, of norm about 3, and their classes (n,)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % N_CLASSES
    centres = torch.randn(N_CLASSES, 3, 6, 6, generator=generator)
    noise = torch.randn(n, 3, 6, 6, generator=generator)
    return 0.2 * centres[targets] + 0.2 * noise, targets


class SilentNoise(NormalStream):
    """A `perturb` stream of zeros, so that a stochastic method can be compared across memory layouts."""

    def fill_(self, out: Tensor, *counters: int) -> Tensor:
        """Fill `out` with zeros, whatever the counters."""
        return out.zero_()


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
        silent: bool = False,
    ) -> None:
        self.streams = Streams(seed)
        self.streams.seed_global("init")
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = net().to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        self.parameters: list[nn.Parameter] = list(self.model.parameters())
        context = BuildContext(total_steps, (SilentNoise if silent else NormalStream)(seed))
        # A step takes an objective where torch's stub has a closure of floats.
        self.optimizer: Any = entry.build(self.parameters, hyper, context)
        self.objective = BatchObjective(self.model, F.cross_entropy, self.streams)
        inputs, targets = examples(sum(batches))
        inputs = inputs.to(dtype=dtype, memory_format=layout)
        self.batches = list(
            zip(torch.split(inputs, list(batches)), torch.split(targets, list(batches)), strict=True)
        )
        self.done = 0

    def load(self) -> None:
        """Bind the next mini-batch and put everything outside the optimizer in a known state."""
        self.objective.load(self.done, *self.batches[self.done % len(self.batches)])
        self.streams.seed_global("order", self.done)
        for p in self.parameters:
            p.grad = None

    def step(self) -> Tensor:
        """One step on the next mini-batch; returns what the optimizer returns."""
        self.load()
        loss: Tensor = self.optimizer.step(self.objective)
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
        inputs, targets = (torch.cat(parts) for parts in zip(*self.batches, strict=True))
        return float(F.cross_entropy(self.model(inputs), targets))


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
