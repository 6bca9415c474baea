"""An optimizer entry in one setting, and its runs on a small problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from suite.conformance.optimizers.problems import BATCHES, STEPS, EvenNoise, conv_net, examples
from suite.conformance.promise import difference
from suite.entries.registry import Found
from suite.objective import BatchObjective, Objective
from suite.parameters import Parameters
from suite.problem import ClassificationLoss
from suite.seeds import NormalStream, Streams
from suite.space import Value
from suite.spec import BuildContext, OptimizerSpec, resolve_params

Snapshot = dict[str, Tensor]


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer entry with some of its parameters overridden."""

    found: Found
    entry: OptimizerSpec
    overrides: Mapping[str, Value | str]

    def hyper(self, **extra: Value) -> dict[str, Value]:
        """Resolve every parameter; `extra` overrides those that the entry declares."""
        known = {name: value for name, value in extra.items() if name in self.entry.params}
        return resolve_params(self.entry.params, {**self.overrides, **known}, f"optimizer {self.entry.name}")

    def trial(self, hyper: Mapping[str, Value] | None = None, **options: Any) -> Trial:
        """Build the entry's optimizer on a small problem, see `Trial`."""
        return Trial(self.entry, self.hyper() if hyper is None else hyper, **options)


@dataclass(eq=False)
class Trial:
    """One optimizer on one small problem, with fixed seeds."""

    entry: OptimizerSpec
    hyper: Mapping[str, Value]
    net: Callable[[], nn.Module] = conv_net
    batches: tuple[int, ...] = BATCHES
    total_steps: int = STEPS
    dtype: torch.dtype = torch.float32
    channels_last: bool = True
    even_noise: bool = False
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        self.needs = frozenset(self.entry.needs(self.hyper))
        self.streams = Streams(0)
        self.streams.seed_global("init")
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.model = self.net().to(dtype=self.dtype, memory_format=layout)  # type: ignore[call-overload]
        self.parameters: list[nn.Parameter] = list(self.model.parameters())
        context = BuildContext(self.total_steps, (EvenNoise if self.even_noise else NormalStream)(0))
        head = [module for module in self.model.modules() if isinstance(module, nn.Linear)][-1:]
        # A step takes an objective where torch's stub has a closure of floats.
        self.optimizer: Any = self.entry.build(Parameters.of(self.model, head), self.hyper, context)
        self._problem = ClassificationLoss()
        self.objective = BatchObjective(self.model, self._problem, self.streams)
        self._whole = examples(sum(self.batches), self.dtype, layout)
        self.sizes = (sum(self.batches),) if "full-batch" in self.needs else self.batches
        """Sizes of the mini-batches of an epoch."""
        ends = zip(self.sizes, accumulate(self.sizes), strict=True)
        self._batches = [self._whole[end - n : end] for n, end in ends]
        self.done = 0
        if self.lr_factor != 1:
            self.scale_lr(self.lr_factor)

    def continued(self, state: Any) -> Trial:
        """Return a new trial that resumes from this one's weights and from a state_dict of its optimizer."""
        other = replace(self)
        other.model.load_state_dict(self.snapshot())
        other.optimizer.load_state_dict(state)
        other.done = self.done
        return other

    def load(self) -> None:
        """Load the next mini-batch, seed the global generator and clear gradients."""
        self.objective.load(self.done, self._batches[self.done % len(self._batches)])
        self.streams.seed_global("order", self.done)
        for p in self.parameters:
            p.grad = None

    def take(self, objective: Objective | None = None) -> Tensor:
        """Take a step on the loaded mini-batch; `objective` may wrap the trial's own."""
        with self.objective.metered() if "function" in self.needs else nullcontext():
            loss: Tensor = self.optimizer.step(self.objective if objective is None else objective)
        self.done += 1
        return loss

    def run(self, steps: int) -> Trial:
        """Take this number of steps, each on the next mini-batch."""
        for _ in range(steps):
            self.load()
            self.take()
        return self

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate of every parameter group, as a schedule would."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def snapshot(self) -> Snapshot:
        """Copy weights and running statistics by name."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def weights(self) -> Snapshot:
        """Copy the weights by name."""
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}

    def gap(self, other: Trial) -> str:
        """Describe the difference in weights and statistics of two trials; empty if bit-identical."""
        return difference(self.snapshot(), other.snapshot())

    @torch.no_grad()
    def loss(self) -> float:
        """Return the unmetered mean loss over all mini-batches at the current weights, in training mode."""
        return float(self._problem.loss(self._problem.forward(self.model, self._whole), self._whole))
