"""Promises of an optimizer about its update: direction, cost, perturbation, its base as a special case."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from suite.conformance.case import Case
from suite.conformance.check import Broken
from suite.conformance.trial import BATCHES, STEPS, Trial, difference, logistic

DESCENT_STEPS = 60
DESCENT_FACTOR = 0.9
"""The loss of the convex problem must end below this part of where it began."""


def descends(case: Case) -> str:
    """The loss of logistic regression, which is convex, falls at the default learning rate."""
    trial = case.trial(net=logistic, batches=(60,), total_steps=DESCENT_STEPS)
    start = trial.loss()
    end = trial.run(DESCENT_STEPS).loss()
    course = f"{start:.3f} to {end:.3f} in {DESCENT_STEPS} steps of logistic regression at the default lr"
    if not math.isfinite(end):
        raise Broken(f"the loss went from {course}: the update diverges on a convex problem")
    if end > start:
        raise Broken(f"the loss rose from {course}: the update goes uphill, so its sign is likely wrong")
    if end > DESCENT_FACTOR * start:
        raise Broken(f"the loss only went from {course}: the update or the default lr is too small")
    return f"loss {course}"


def cost(case: Case) -> str:
    """The meter counts what `cost` declares, also on a last batch of odd size."""
    declared = float(case.entry.cost(case.hyper()))
    trial = case.trial()
    for n in BATCHES:
        before = trial.objective.meter.sample_gradients
        trial.step()
        counted = (trial.objective.meter.sample_gradients - before) / n
        if not math.isclose(counted, declared, rel_tol=1e-9):
            raise Broken(
                f"declares {declared:g} sample-gradient{'s' * (declared != 1)} per example and step, the "
                f"meter counted {counted:g} on a batch of {n}: mend cost(hyper), or the calls in step"
            )
    return f"{declared:g} per example and step, on batches of {_list(BATCHES)}"


def zero(case: Case) -> str:
    """At `zero` the method is its base, bit for bit, in weights and running statistics (protocol rule 11)."""
    hyper = case.hyper(**case.entry.zero)
    at = ", ".join(f"{name}={value}" for name, value in case.entry.zero.items())
    method, plain = Trial(case.entry, hyper), Trial(case.entry, hyper)
    base = getattr(plain.optimizer, "base", None)
    if not isinstance(base, torch.optim.Optimizer):
        raise Broken(f"declares zero ({at}) but its optimizer has no `base`: keep the wrapped one there")
    for step in range(STEPS):
        method.step()
        plain.load()
        plain.objective()
        base.step()
        plain.done += 1
        gap = difference(method.snapshot(), plain.snapshot())
        if gap:
            raise Broken(
                f"at {at} step {step} does not equal the base {type(base).__name__} bit for bit: {gap}; "
                "rounding in perturb and restore, or running statistics of another evaluation"
            )
    return f"at {at} equal to {type(base).__name__} bit for bit over {STEPS} steps"


def perturbation(case: Case) -> str:
    """An entry that takes gradients at other weights says so, as low precision is then watched (rule 6)."""
    trial = case.trial()
    watch = _Gaze(trial)
    trial.load()
    trial.optimizer.step(watch)
    if watch.moved and not case.entry.perturbs:
        raise Broken(
            "gradients are taken at perturbed weights, but the entry has perturbs=False: say perturbs=True, "
            "so that runs in low precision record how well the perturbation is realised"
        )
    return f"gradients at {'perturbed weights, as declared' if watch.moved else 'the weights themselves'}"


class _Gaze:
    """An objective that notes whether it is called at other weights than those before the step."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._clean = trial.weights()
        self.moved = False

    def __call__(self, part: int = 0, parts: int = 1, track_stats: bool = True) -> Tensor:
        self.moved |= bool(difference(self._clean, self._trial.weights()))
        return self._trial.objective(part, parts, track_stats)


def _list(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes[:-1])) + f" and {sizes[-1]}"
