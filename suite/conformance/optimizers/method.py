"""Promises of an optimizer about its entry, on which the other promises depend, and about its update."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from suite.conformance.optimizers.observer import Observer
from suite.conformance.optimizers.problems import BATCHES, STEPS, Projected, late_net, logistic
from suite.conformance.optimizers.trial import OptimizerCase
from suite.conformance.promise import Faults, faults_in_help, faults_in_texts, in_words
from suite.errors import SteppeError, unknown
from suite.schedule import SHARED
from suite.task import CAPABILITIES

DESCENT_STEPS = 60
"""Steps of a method that costs one gradient a step or more; cheaper methods take proportionally more."""

DESCENT_FACTOR = 0.9
"""The loss of the convex problem must fall below this share of its initial value."""

FUNCTION_TOLERANCE = 0.05
"""Relative tolerance of the cost if an entry uses the loss as a function. The meter then counts operations in
units of those of a gradient. A network's first layer has no gradient of its inputs, so its share of the two
differs; it does 1 % of the operations of `late_net`, and the tolerance is a few times that."""


def well_formed(case: OptimizerCase) -> Faults:
    """The entry has a valid name, descriptions, a search space for the learning rate and a positive cost."""
    entry = case.entry
    yield from faults_in_texts(entry, summary=entry.summary, source=entry.source)
    missing = sorted(SHARED.keys() - entry.params.keys())
    yield missing and f"params lack {', '.join(missing)}: merge suite.schedule.SHARED into them"
    yield "lr" not in entry.params and "params lack lr: every optimizer has a learning rate"
    if entry.params["lr"].search is None:
        yield "the parameter lr has no search space: give Param(search=...), as tuning needs one"
    yield from faults_in_help(entry)
    undeclared = sorted(entry.zero.keys() - entry.params.keys())
    yield undeclared and f"zero names {', '.join(undeclared)}, which params do not declare"
    if not ast.get_docstring(ast.parse(case.found.path.read_text(encoding="utf-8"))):
        yield f"{case.found.path.name} has no docstring: state the update rule and its source"
    named: Any = entry.needs(case.hyper())
    if isinstance(named, str) or not isinstance(named, Collection):  # a str is a collection of letters
        yield f"needs(hyper) is {named!r}: return a tuple of names, for instance ('function',)"
    for need in named:
        if need not in CAPABILITIES:
            raise unknown("need", str(need), CAPABILITIES)
    cost = float(entry.cost(case.hyper()))
    if not (math.isfinite(cost) and cost > 0):
        yield f"cost(hyper) is {cost}: declare sample-gradients per example and step, above 0"
    return f"{len(entry.params)} parameters, {cost:g} sample-gradient(s) per example and step"


def builds(case: OptimizerCase) -> Faults:
    """`build` returns a torch optimizer that holds every parameter."""
    trial = case.trial()
    if not isinstance(trial.optimizer, torch.optim.Optimizer):
        yield f"build returns a {type(trial.optimizer).__name__}, not a torch.optim.Optimizer"
    held = {id(p) for group in trial.optimizer.param_groups for p in group["params"]}
    lost = [name for name, p in trial.model.named_parameters() if id(p) not in held]
    yield lost and f"param_groups lack {', '.join(lost)}: hold every parameter that build is given"
    if any("lr" not in group for group in trial.optimizer.param_groups):
        yield "a parameter group has no lr: the schedule sets group['lr'] before each step"
    return type(trial.optimizer).__name__


def takes_a_step(case: OptimizerCase) -> Faults:
    """`step` runs and returns the batch loss."""
    observer = Observer(case.trial())
    try:
        loss: Any = observer.step()
    except SteppeError:
        raise
    except Exception as error:
        if observer.doors:
            raise
        yield (
            f"{in_words(error)}; step had not called the objective yet, and nothing else computes gradients: "
            "call objective() first, and once more for each further gradient"
        )
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        kind = "nothing" if loss is None else f"a {type(loss).__name__}"
        shown = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else kind
        yield f"step returns {shown}: return the batch loss, a 0-dim tensor"
    if loss.requires_grad:
        yield "step returns a loss with a graph: return it detached, as the objective gives it"
    if not math.isfinite(float(loss)):
        yield f"step returns the loss {float(loss)}: it must be finite at the first step"
    return f"loss {float(loss):.3f}"


def deterministic(case: OptimizerCase) -> Faults:
    """Two runs with one seed are bit-identical."""
    gap = case.trial().run(STEPS).gap(case.trial().run(STEPS))
    yield gap and f"two runs of one seed differ: {gap}; a draw that does not come from context.noise"
    return f"two runs of one seed agree bit for bit over {STEPS} steps"


def descends(case: OptimizerCase) -> Faults:
    """The convex loss of logistic regression falls at the default learning rate."""
    net = Projected if Observer(case.trial()).run(1).doors == {"loss"} else logistic
    steps = math.ceil(DESCENT_STEPS / min(1.0, float(case.entry.cost(case.hyper()))))
    trial = case.trial(net=net, batches=(60,), total_steps=steps)
    start = trial.loss()
    end = trial.run(steps).loss()
    course = f"{start:.3f} to {end:.3f} in {steps} steps of logistic regression at the default lr"
    yield not math.isfinite(end) and f"the loss went from {course}: the update diverges on a convex problem"
    yield end > start and f"the loss rose from {course}: the update goes uphill, so its sign is likely wrong"
    if end > DESCENT_FACTOR * start:
        yield f"the loss only went from {course}: the update or the default lr is too small"
    return f"loss {course}"


def cost(case: OptimizerCase) -> Faults:
    """The meter counts what `cost` declares, also on a smaller last batch.

    Gradients and losses must agree exactly; the loss as a function, metered by operations, approximately.
    """
    declared = float(case.entry.cost(case.hyper()))
    by_operations = "function" in case.entry.needs(case.hyper())
    trial = case.trial(net=late_net) if by_operations else case.trial()
    for n in trial.sizes:
        before = trial.objective.meter.sample_gradients
        trial.run(1)
        counted = (trial.objective.meter.sample_gradients - before) / n
        within = f" (allowed are {FUNCTION_TOLERANCE:.0%})" if by_operations else ""
        yield not math.isclose(counted, declared, rel_tol=FUNCTION_TOLERANCE if by_operations else 1e-9) and (
            f"declares {declared:g} sample-gradient{'s' * (declared != 1)} per example and step, the "
            f"meter counted {counted:g} on a batch of {n}{within}: correct cost(hyper), or the calls"
        )
    *most, last = map(str, trial.sizes)
    sizes = f"on batches of {', '.join(most)} and {last}" if most else f"on a batch of {last}"
    if by_operations:
        return f"{declared:g} per example and step, {counted:.3g} {sizes}: operations, in those of a gradient"
    return f"{declared:g} per example and step, {sizes}"


def zero(case: OptimizerCase) -> Faults:
    """At `zero` weights and running statistics are bit-identical to the base's (protocol rule 11)."""
    hyper = case.hyper(**case.entry.zero)
    at = ", ".join(f"{name}={value}" for name, value in case.entry.zero.items())
    method, plain = case.trial(hyper), case.trial(hyper)
    base: Any = getattr(plain.optimizer, "base", None)
    if not isinstance(base, torch.optim.Optimizer):
        yield f"declares zero ({at}) but its optimizer has no `base`: keep the wrapped one there"
    for step in range(STEPS):
        method.run(1)
        plain.load()
        plain.objective()
        base.step()
        plain.done += 1
        gap = method.gap(plain)
        yield gap and (
            f"at {at} step {step} does not equal the base {type(base).__name__} bit for bit: {gap}; "
            "rounding in perturb and restore, or running statistics of another evaluation"
        )
    return f"at {at} equal to {type(base).__name__} bit for bit over {STEPS} steps"


def perturbation(case: OptimizerCase) -> Faults:
    """An entry that takes gradients or losses at other weights declares it, for low precision (rule 6)."""
    observer = Observer(case.trial()).run(1)
    what = "losses" if observer.doors == {"loss"} else "gradients"
    silent = observer.moved and not case.entry.perturbs
    yield silent and (
        f"{what} are taken at perturbed weights, but the entry has perturbs=False: say perturbs=True, "
        "so that runs in low precision record how well the perturbation is realised"
    )
    return f"{what} at {'perturbed weights, as declared' if observer.moved else 'the weights themselves'}"


def needs(case: OptimizerCase) -> Faults:
    """An entry that splits mini-batches declares it, so that a plan can refuse tasks with a joint loss."""
    declared = case.entry.needs(case.hyper())
    parts = Observer(case.trial()).run(len(BATCHES)).parts
    silent = parts > 1 and "parts" not in declared
    yield silent and (
        f"step splits the mini-batch into {parts} parts, which needs(hyper) does not name: return "
        "('parts',), so that tasks whose loss is no mean over examples are refused before a run"
    )
    return f"needs {', '.join(sorted(declared))}" if declared else "needs nothing that a task may lack"
