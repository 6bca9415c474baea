"""Wraps a trial's objective and records the optimizer's calls, its draws and its changes of the weights."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from suite.conformance.optimizers.trial import Trial
from suite.conformance.promise import difference
from suite.objective import ObservedObjective
from suite.process_group import slice_bounds


class Observer(ObservedObjective):
    """Takes the steps of a trial and records what the optimizer does."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial.objective)
        self._trial = trial
        self.doors: set[str] = set()
        """The calls that were used, of `gradient`, `loss` and `function`."""
        self.parts = 1
        """The largest requested number of parts."""
        self.moved = False
        """Whether an evaluation was at other weights than those before the step."""
        self.counted = 0
        """Maximum number of times that a step added an example to BatchNorm's running statistics."""
        self.drawn = ""
        """Name of a global generator that the optimizer drew from between evaluations."""

    def step(self) -> Tensor:
        """Take a step on the next mini-batch; return the optimizer's result."""
        self._clean = self._trial.weights()
        self._counts = [0] * self._trial.sizes[self._trial.done % len(self._trial.sizes)]
        self._trial.load()
        self._generators = _generators()
        loss = self._trial.take(self)
        self._note_draws()
        self.counted = max(self.counted, *self._counts)
        return loss

    def run(self, steps: int) -> Observer:
        """Take that many steps."""
        for _ in range(steps):
            self.step()
        return self

    def look(self) -> None:
        """Compare the weights with those before the step."""
        self.moved |= bool(difference(self._clean, self._trial.weights()))

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """See `Objective`."""
        with self._evaluation("gradient", parts):
            loss = super().__call__(part, parts, track_stats, across_ranks)
        if track_stats:
            for example in range(*slice_bounds(len(self._counts), part, parts)):
                self._counts[example] += 1
        return loss

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """See `Objective`."""
        with self._evaluation("loss", parts):
            return super().loss(part, parts)

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """See `Objective`."""
        with self._evaluation("function", parts):
            inner = super().function(part, parts)

        def observed(flat: Tensor) -> Tensor:
            with self._evaluation("function", parts):
                return inner(flat)

        return observed

    @contextmanager
    def _evaluation(self, door: str, parts: int) -> Iterator[None]:
        """Exclude draws of the objective itself, such as dropout, from those of the optimizer."""
        self.doors.add(door)
        self.parts = max(self.parts, parts)
        self._note_draws()
        yield
        self._generators = _generators()

    def _note_draws(self) -> None:
        old, new = self._generators, _generators()
        moved = [not torch.equal(old[0], new[0]), old[1] != new[1], old[2] != new[2]]
        if any(moved):
            self.drawn = f"{('torch', 'Python', 'numpy')[moved.index(True)]}'s global generator"


def _generators() -> tuple[Tensor, object, bytes]:
    """Return the states of the global generators of torch, Python and numpy."""
    return torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
