"""Promises of an optimizer about its form: without them nothing else can be judged."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection

import torch
from torch import Tensor

from suite.conformance.case import Case
from suite.conformance.check import Broken, in_words, name_and_text
from suite.conformance.observers import Calls
from suite.conformance.trial import STEPS, difference
from suite.errors import SteppeError, unknown
from suite.schedule import SHARED
from suite.task import CAPABILITIES


def well_formed(case: Case) -> str:
    """Named, described, with a learning rate to search and a cost that can be checked."""
    entry = case.entry
    name_and_text(entry.name, entry.version, {"summary": entry.summary, "source": entry.source})
    missing = sorted(SHARED.keys() - entry.params.keys())
    if missing:
        raise Broken(f"params lack {', '.join(missing)}: merge suite.schedule.SHARED into them")
    if "lr" not in entry.params:
        raise Broken("params lack lr: every optimizer has a learning rate")
    if entry.params["lr"].search is None:
        raise Broken("the parameter lr has no search space: give Param(search=...), as tuning needs one")
    silent = [name for name, param in entry.params.items() if not param.help]
    if silent:
        raise Broken(f"no help text for {', '.join(silent)}: say what each parameter is")
    stranger = sorted(entry.zero.keys() - entry.params.keys())
    if stranger:
        raise Broken(f"zero names {', '.join(stranger)}, which params do not declare")
    if not ast.get_docstring(ast.parse(case.found.path.read_text(encoding="utf-8"))):
        raise Broken(f"{case.found.path.name} has no docstring: state the update rule and its source")
    _check_needs(case)
    cost = float(entry.cost(case.hyper()))
    if not (math.isfinite(cost) and cost > 0):
        raise Broken(f"cost(hyper) is {cost}: declare sample-gradients per example and step, above 0")
    return f"{len(entry.params)} parameters, {cost:g} sample-gradient(s) per example and step"


def _check_needs(case: Case) -> None:
    named: object = case.entry.needs(case.hyper())
    if isinstance(named, str) or not isinstance(named, Collection):  # a text is a collection, too: of letters
        raise Broken(f"needs(hyper) is {named!r}: return a tuple of names, for instance ('function',)")
    for need in named:
        if need not in CAPABILITIES:
            raise unknown("need", str(need), CAPABILITIES)


def builds(case: Case) -> str:
    """`build` gives a torch optimizer that holds every parameter."""
    trial = case.trial()
    if not isinstance(trial.optimizer, torch.optim.Optimizer):
        raise Broken(f"build returns a {type(trial.optimizer).__name__}, not a torch.optim.Optimizer")
    held = {id(p) for group in trial.optimizer.param_groups for p in group["params"]}
    lost = [name for name, p in trial.model.named_parameters() if id(p) not in held]
    if lost:
        raise Broken(f"param_groups lack {', '.join(lost)}: hold every parameter that build is given")
    if any("lr" not in group for group in trial.optimizer.param_groups):
        raise Broken("a parameter group has no lr: the schedule sets group['lr'] before each step")
    return type(trial.optimizer).__name__


def takes_a_step(case: Case) -> str:
    """`step` runs and returns the batch loss."""
    trial = case.trial()
    watch = Calls(trial)
    try:
        loss: object = trial.step(watch)
    except SteppeError:
        raise
    except Exception as error:
        if watch.doors:
            raise
        raise Broken(
            f"{in_words(error)}; step had not called the objective yet, and nothing else computes gradients: "
            "call objective() first, and once more for each further gradient"
        ) from None
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        raise Broken(f"step returns {_kind(loss)}: return the batch loss, a 0-dim tensor")
    if loss.requires_grad:
        raise Broken("step returns a loss with a graph: return it detached, as the objective gives it")
    if not math.isfinite(float(loss)):
        raise Broken(f"step returns the loss {float(loss)}: it must be finite at the first step")
    return f"loss {float(loss):.3f}"


def deterministic(case: Case) -> str:
    """Two runs of one seed agree bit for bit."""
    gap = difference(case.trial().run(STEPS).snapshot(), case.trial().run(STEPS).snapshot())
    if gap:
        raise Broken(f"two runs of one seed differ: {gap}; a draw that does not come from context.noise")
    return f"two runs of one seed agree bit for bit over {STEPS} steps"


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"
