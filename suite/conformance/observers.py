"""Objectives around a trial's own, which note what an optimizer asks for and what it does between."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from suite.conformance.trial import Trial, difference
from suite.objective import ObservedObjective
from suite.ranks import slice_bounds


class Calls(ObservedObjective):
    """Notes through which doors an optimizer goes, and whether it asks for slices."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial.objective)
        self.doors: set[str] = set()
        """Of `gradient`, `loss` and `function`, those that were used."""
        self.parts = 1
        """The largest number of parts asked for."""

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """See `Objective`."""
        self._note("gradient", parts)
        return super().__call__(part, parts, track_stats, across_ranks)

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """See `Objective`."""
        self._note("loss", parts)
        return super().loss(part, parts)

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """See `Objective`."""
        self._note("function", parts)
        return super().function(part, parts)

    def _note(self, door: str, parts: int) -> None:
        self.doors.add(door)
        self.parts = max(self.parts, parts)


class Moves(ObservedObjective):
    """Notes whether gradients or losses are asked for at other weights than those before the step."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial.objective)
        self._trial, self._clean = trial, trial.weights()
        self.moved = False

    def look(self) -> None:
        """Compare the weights with those before the step."""
        self.moved |= bool(difference(self._clean, self._trial.weights()))


class Counts(ObservedObjective):
    """Counts how often BatchNorm's running statistics take up each example of the mini-batch."""

    def __init__(self, trial: Trial, n: int) -> None:
        super().__init__(trial.objective)
        self.counts = [0] * n

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """See `Objective`."""
        if track_stats:
            for example in range(*slice_bounds(len(self.counts), part, parts)):
                self.counts[example] += 1
        return super().__call__(part, parts, track_stats, across_ranks)


class Draws(ObservedObjective):
    """Notes which global generator moved while the optimizer was at work, between its evaluations."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial.objective)
        self.drawn = ""

    def begin(self) -> None:
        """Note where the generators stand: the optimizer goes on from here."""
        self._torch, self._python, self._numpy = torch.get_rng_state(), random.getstate(), _numpy_state()

    def end(self) -> None:
        """Compare; what moves until the next `begin` is the objective's doing."""
        if not torch.equal(self._torch, torch.get_rng_state()):
            self.drawn = "torch's global generator"
        elif self._python != random.getstate():
            self.drawn = "Python's global generator"
        elif self._numpy != _numpy_state():
            self.drawn = "numpy's global generator"

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """See `Objective`."""
        self.end()
        loss = super().__call__(part, parts, track_stats, across_ranks)
        self.begin()
        return loss

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """See `Objective`."""
        self.end()
        loss = super().loss(part, parts)
        self.begin()
        return loss

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """See `Objective`."""
        self.end()
        inner = super().function(part, parts)
        self.begin()

        def watched(flat: Tensor) -> Tensor:
            self.end()
            loss = inner(flat)
            self.begin()
            return loss

        return watched


def _numpy_state() -> str:
    name, keys, *rest = np.random.get_state()
    return f"{name} {np.asarray(keys).tobytes().hex()} {rest}"
