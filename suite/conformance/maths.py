"""Promises of an optimizer about its update: direction, cost, perturbation, its base as a special case."""

from __future__ import annotations

import math

import torch

from suite.conformance.case import Case
from suite.conformance.check import Broken
from suite.conformance.observers import Calls, Moves
from suite.conformance.trial import BATCHES, STEPS, Projected, difference, late_net, logistic

DESCENT_STEPS = 60
"""Of a method of one gradient a step or more; one that costs less has as many more."""

DESCENT_FACTOR = 0.9
"""The loss of the convex problem must end below this part of where it began."""

FUNCTION_TOLERANCE = 0.05
"""Of the cost of an entry that uses the loss as a function: it is metered by operations, in units of those of
a gradient, and of either a network's first layer, which has no gradient of its inputs, costs another share.
That layer does 1 % of the operations of `late_net`, where the tolerance is a few times that."""


def descends(case: Case) -> str:
    """The loss of logistic regression, which is convex, falls at the default learning rate."""
    net = logistic if _doors(case) != {"loss"} else Projected
    steps = math.ceil(DESCENT_STEPS / min(1.0, float(case.entry.cost(case.hyper()))))
    trial = case.trial(net=net, batches=(60,), total_steps=steps)
    start = trial.loss()
    end = trial.run(steps).loss()
    course = f"{start:.3f} to {end:.3f} in {steps} steps of logistic regression at the default lr"
    if not math.isfinite(end):
        raise Broken(f"the loss went from {course}: the update diverges on a convex problem")
    if end > start:
        raise Broken(f"the loss rose from {course}: the update goes uphill, so its sign is likely wrong")
    if end > DESCENT_FACTOR * start:
        raise Broken(f"the loss only went from {course}: the update or the default lr is too small")
    return f"loss {course}"


def cost(case: Case) -> str:
    """The meter counts what `cost` declares, also on a last batch of odd size.

    Gradients and losses exactly; the loss as a function, whose operations are metered, about.
    """
    declared = float(case.entry.cost(case.hyper()))
    by_operations = "function" in case.entry.needs(case.hyper())
    trial = case.trial(net=late_net) if by_operations else case.trial()
    for n in trial.sizes:
        before = trial.objective.meter.sample_gradients
        trial.step()
        counted = (trial.objective.meter.sample_gradients - before) / n
        if not math.isclose(counted, declared, rel_tol=FUNCTION_TOLERANCE if by_operations else 1e-9):
            within = f" (allowed are {FUNCTION_TOLERANCE:.0%})" if by_operations else ""
            raise Broken(
                f"declares {declared:g} sample-gradient{'s' * (declared != 1)} per example and step, the "
                f"meter counted {counted:g} on a batch of {n}{within}: correct cost(hyper), or the calls"
            )
    sizes = f"on {'batches' if len(trial.sizes) > 1 else 'a batch'} of {_list(trial.sizes)}"
    if by_operations:
        return f"{declared:g} per example and step, {counted:.3g} {sizes}: operations, in those of a gradient"
    return f"{declared:g} per example and step, {sizes}"


def zero(case: Case) -> str:
    """At `zero` the method is its base, bit for bit, in weights and running statistics (protocol rule 11)."""
    hyper = case.hyper(**case.entry.zero)
    at = ", ".join(f"{name}={value}" for name, value in case.entry.zero.items())
    method, plain = case.trial(hyper), case.trial(hyper)
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
    """An entry that takes gradients or losses at other weights says so, for low precision (rule 6)."""
    trial = case.trial()
    watch = Moves(trial)
    trial.step(watch)
    what = "losses" if _doors(case) == {"loss"} else "gradients"
    if watch.moved and not case.entry.perturbs:
        raise Broken(
            f"{what} are taken at perturbed weights, but the entry has perturbs=False: say perturbs=True, "
            "so that runs in low precision record how well the perturbation is realised"
        )
    return f"{what} at {'perturbed weights, as declared' if watch.moved else 'the weights themselves'}"


def needs(case: Case) -> str:
    """An entry that splits mini-batches says so: a plan then refuses tasks whose loss cannot be split."""
    declared = case.entry.needs(case.hyper())
    trial = case.trial()
    watch = Calls(trial)
    for _ in range(len(BATCHES)):
        trial.step(watch)
    if watch.parts > 1 and "parts" not in declared:
        raise Broken(
            f"step splits the mini-batch into {watch.parts} parts, which needs(hyper) does not name: return "
            "('parts',), so that tasks whose loss is no mean over examples are refused before a run"
        )
    return f"needs {', '.join(sorted(declared))}" if declared else "needs nothing that a task may lack"


def _doors(case: Case) -> set[str]:
    """Return through which doors of the objective the first step goes."""
    trial = case.trial()
    watch = Calls(trial)
    trial.step(watch)
    return watch.doors


def _list(sizes: tuple[int, ...]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, sizes[:-1])), str(sizes[-1])]))
