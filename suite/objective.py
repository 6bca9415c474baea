"""What an optimizer calls to get a gradient, and the meter that counts what it cost.

An objective is bound to one mini-batch at a time. Calling it runs forward and backward on a slice of
that batch and accumulates into `.grad` the gradient of the mean loss over the whole mini-batch:

    objective(part=j, parts=M) adds  (n_j / n) * grad L(w; slice j),   sum_j n_j = n.

The optimizer zeroes gradients. The meter counts sample-gradients: one example through one forward and
backward pass. All evaluations of a step share one dropout mask per example (protocol rule 19), and
`track_stats=False` leaves the running statistics of BatchNorm alone (rule 18).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from suite.errors import SteppeError
from suite.models.dropout import SharedDropout, share_dropout
from suite.ranks import Ranks, slice_bounds
from suite.seeds import Streams

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss over the examples of (outputs, targets), a 0-dim tensor."""


class Objective(Protocol):
    """The only way an optimizer gets a gradient."""

    def __call__(self, part: int = 0, parts: int = 1, track_stats: bool = True) -> Tensor:
        """Accumulate the gradient of one slice; return its share of the batch's mean loss, detached.

        Args:
            part: which of the `parts` consecutive slices, 0-based.
            parts: number of slices M; their sizes differ by one where they must. Slices beyond the
                number of examples are empty: they cost nothing and return 0.
            track_stats: whether BatchNorm's running statistics take up this evaluation.

        Returns:
            0-dim tensor (n_j / n) * mean loss of the slice, so that the sum over parts is the batch's mean.
        """
        ...


@dataclass
class Meter:
    """Cost in protocol units: sample-gradients, and forward passes of single examples without a gradient."""

    sample_gradients: int = 0
    forward_only: int = 0


class StatsSwitch:
    """Turns the tracking of running statistics of every BatchNorm of a model on and off.

    A layer in training mode with `track_running_stats=False` normalises by the batch and leaves
    `running_mean`, `running_var` and `num_batches_tracked` untouched; momentum 0 would still count.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self._layers = [m for m in norms if m.running_mean is not None]
        self._on = True
        for layer in self._layers:
            layer.track_running_stats = True

    def set(self, on: bool) -> None:
        """Track (True) or leave alone (False) the running statistics in the next forward passes."""
        if on != self._on:
            for layer in self._layers:
                layer.track_running_stats = on
            self._on = on


class BatchObjective:
    """The engine's objective: a model, a loss, and the mini-batch given by the last `load`.

    Of several `ranks` each evaluates its slice of the slice, and what comes out is the same in all of them:
    gradient, loss, `correct` and meter are those of the whole.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        streams: Streams,
        *,
        separable: bool = True,
        autocast: torch.dtype | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.meter = Meter()
        self.correct: Tensor | None = None
        """Correct predictions in the first evaluation of every example of the batch, a 0-dim tensor."""
        self._model = model
        self._loss = loss
        self._streams = streams
        self._separable = separable
        self._autocast = autocast
        self._ranks = Ranks() if ranks is None else ranks
        self._params = [p for p in model.parameters() if p.requires_grad]
        self._stats = StatsSwitch(model)
        self._dropout: list[SharedDropout] = share_dropout(model)
        self._step = -1
        self._seen = 0

    def load(self, step: int, inputs: Tensor, targets: Tensor) -> None:
        """Bind the mini-batch of `step`: inputs (n, C, H, W) and targets (n,), already on the device."""
        self._step, self._inputs, self._targets = step, inputs, targets
        self._seen = 0
        self.correct = None
        for layer in self._dropout:
            layer.begin_step(len(targets))

    def __call__(self, part: int = 0, parts: int = 1, track_stats: bool = True) -> Tensor:
        """See `Objective`; raises SteppeError on parts > 1 where the batch loss is no mean over examples."""
        if parts > 1 and not self._separable:
            raise SteppeError("this task's batch loss is not a mean over examples: parts must be 1")
        n = len(self._targets)
        low, high = slice_bounds(n, part, parts)
        if low == high:
            return self._targets.new_zeros((), dtype=torch.float32)
        self._stats.set(track_stats)
        # Random draws of library code inside the model: the same for every evaluation of this slice.
        # The -1 keeps them apart from the layers' own draws, which count from 0 there.
        place = (self._ranks.rank,) if self._ranks.n > 1 else ()
        self._streams.seed_global("dropout", self._step, -1, part, parts, *place)
        loss, correct = self._evaluate(*self._ranks.bounds(low, high), count=high > self._seen)
        self._seen = max(self._seen, high)
        self.meter.sample_gradients += high - low
        if correct is not None:
            self.correct = correct if self.correct is None else self.correct + correct
        return loss

    def _evaluate(self, low: int, high: int, *, count: bool) -> tuple[Tensor, Tensor | None]:
        """Add the gradient of examples [low, high) and of the other ranks'; return loss and correct ones."""
        self._ranks.begin(self._params)
        loss, correct = self._pass(low, high, count=count) if low < high else (None, None)
        if self._ranks.n == 1:
            assert loss is not None
            return loss, correct
        numbers = self._params[0].new_zeros(2)
        if loss is not None:
            numbers[0] = loss
        if correct is not None:
            numbers[1] = correct
        numbers = self._ranks.add_up(self._params, numbers)
        return numbers[0], numbers[1] if count else None

    def _pass(self, low: int, high: int, *, count: bool) -> tuple[Tensor, Tensor | None]:
        n = len(self._targets)
        inputs, targets = self._inputs[low:high], self._targets[low:high]
        for layer in self._dropout:
            layer.begin_pass(low, high, self._streams, self._step)
        with torch.autocast(inputs.device.type, dtype=self._autocast, enabled=self._autocast is not None):
            outputs = self._model(inputs)
        loss = self._loss(outputs.float() if self._autocast else outputs, targets)
        if high - low < n:
            loss = loss * ((high - low) / n)
        loss.backward()  # type: ignore[no-untyped-call]
        correct = (outputs.detach().argmax(1) == targets).sum() if count else None
        return loss.detach(), correct


class ClosureObjective:
    """A plain closure (forward, backward, return the loss) as an objective, for anybody's own loop."""

    def __init__(self, closure: Callable[[], Tensor], model: nn.Module | None = None) -> None:
        self._closure = closure
        self._stats = StatsSwitch(model) if model is not None else None

    def __call__(self, part: int = 0, parts: int = 1, track_stats: bool = True) -> Tensor:
        """Run the closure; it must not zero gradients. Raises SteppeError on parts > 1."""
        if parts > 1:
            raise SteppeError("a closure cannot be split: use parts=1, or suite.objective.BatchObjective")
        if self._stats is not None:
            self._stats.set(track_stats)
        with torch.enable_grad():
            return self._closure().detach()


def as_objective(closure: Callable[[], Tensor], model: nn.Module | None = None) -> ClosureObjective:
    """Adapt a closure that does forward and backward; pass `model` so that `track_stats` works."""
    return ClosureObjective(closure, model)
