"""An objective around a trial's own, which notes what an optimizer asks for and what it does between."""

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
    """Takes the steps of a trial, and notes what happens in them."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial.objective)
        self._trial = trial
        self.doors: set[str] = set()
        """Of `gradient`, `loss` and `function`, those that were used."""
        self.parts = 1
        """The largest number of parts asked for."""
        self.moved = False
        """Whether gradients or losses were asked for at other weights than those before the step."""
        self.counted = 0
        """How often, at most, a step had BatchNorm's running statistics take up an example."""
        self.drawn = ""
        """The global generator that moved while the optimizer was at work, between its evaluations."""

    def step(self) -> Tensor:
        """Take a step on the next mini-batch; returns what the optimizer returns."""
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
        """Surround the objective's own work: what it draws is not the optimizer's doing."""
        self.doors.add(door)
        self.parts = max(self.parts, parts)
        self._note_draws()
        yield
        self._generators = _generators()

    def _note_draws(self) -> None:
        stood, stand = self._generators, _generators()
        moved = [not torch.equal(stood[0], stand[0]), stood[1] != stand[1], stood[2] != stand[2]]
        if any(moved):
            self.drawn = f"{('torch', 'Python', 'numpy')[moved.index(True)]}'s global generator"


def _generators() -> tuple[Tensor, object, bytes]:
    """Return where the global generators of torch, Python and numpy stand."""
    return torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
