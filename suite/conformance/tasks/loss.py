"""Promises of a task about its loss: a mean over examples, or else one of whole batches, and said so."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.conformance.check import Broken
from suite.conformance.tasks.case import TaskCase
from suite.conformance.tasks.unchanged import unchanged
from suite.problem import Problem
from suite.ranks import slice_bounds

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of a loss, and of a gradient relative to its norm: sums in another order, through some hundred layers, lose
less than half of the digits (16 and 7). A joint loss of halves differs by a tenth or more."""

PARTS = (2, 3)


def adds_up(case: TaskCase) -> str:
    """The loss and gradient of a mini-batch are the weighted sums of those of its slices, if it is separable.

    The model is in eval mode, in which BatchNorm takes no statistics of the batch: only the loss is judged.
    """
    problem, model, batch, dtype = _exact(case)
    with unchanged("loss", problem, model, batch):
        whole, gradient = _evaluate(problem, model, batch, 1)
    if not bool(torch.isfinite(whole)):
        raise Broken(f"the loss of a mini-batch is {float(whole)} at the initial weights: not finite")
    if not case.task.separable:
        return f"a joint loss: {float(whole):.4g} for a mini-batch of {len(batch)}"
    if len(batch) < 2:
        return "not judged: a mini-batch has one example"
    tolerance = TOLERANCE[dtype]
    for parts in PARTS:
        loss, of_parts = _evaluate(problem, model, batch, parts)
        gap = float((loss - whole).abs()) / max(1.0, float(whole.abs()))
        turned = float((of_parts - gradient).norm()) / max(float(gradient.norm()), tolerance)
        if not max(gap, turned) <= tolerance:
            what, size = ("loss", gap) if gap >= turned else ("gradient", turned)
            raise Broken(
                f"the {what} of {len(batch)} examples is not that of its {parts} slices added up (relative "
                f"difference {size:.1e}): a loss of whole batches needs separable=False; a mean over "
                "examples must be the sum over units divided by batch.units"
            )
    return f"slices add up to the whole mini-batch within {tolerance:g}, in {_short(dtype)}"


def sums(case: TaskCase) -> str:
    """`losses` gives one number an example, and they sum to what `loss` gives."""
    if not case.task.separable:
        return "not judged: a joint loss has none of its examples alone"
    problem, model, batch, dtype = _exact(case)
    with torch.no_grad(), unchanged("losses", problem, model, batch):
        outputs = problem.forward(model, batch)
        try:
            losses = problem.losses(outputs, batch)
        except NotImplementedError:
            raise Broken(
                "the loss is declared separable, but there is no losses(outputs, batch): write it, one "
                "number an example, or declare separable=False"
            ) from None
        loss = problem.loss(outputs, batch)
    if tuple(losses.shape) != (len(batch),):
        raise Broken(
            f"losses has shape {tuple(losses.shape)} for {len(batch)} examples: one number an example, (n,), "
            "summed over its units"
        )
    mean = float(losses.double().sum()) / batch.units
    if not abs(mean - float(loss)) <= TOLERANCE[dtype] * max(1.0, abs(mean)):
        raise Broken(
            f"losses sum to {mean:.6g} a unit, loss gives {float(loss):.6g}: sum losses over the units of an "
            "example, and divide loss by batch.units"
        )
    return f"loss {float(loss):.4g}, a mean over {batch.units} unit{'s' * (batch.units != 1)}"


def _exact(case: TaskCase) -> tuple[Problem, nn.Module, Batch, torch.dtype]:
    """Make the problem in float64, or in float32 where its code cannot; the model is in eval mode."""
    for dtype in (torch.float64, torch.float32):
        problem = case.problem(dtype=dtype)
        model = case.model(problem).eval()
        batch = case.few(problem).to(problem.device, dtype)
        try:
            with torch.no_grad():
                problem.loss(problem.forward(model, batch), batch)
            return problem, model, batch, dtype
        except RuntimeError:  # torch's own about a dtype
            if dtype is torch.float32:
                raise
    raise AssertionError


def _evaluate(problem: Problem, model: nn.Module, batch: Batch, parts: int) -> tuple[Tensor, Tensor]:
    """Return the loss of a mini-batch and its gradient as one vector, from that many slices."""
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for part in range(parts):
        some = batch.part(*slice_bounds(len(batch), part, parts))
        share = problem.loss(problem.forward(model, some), some) * (some.units / batch.units)
        share.backward()  # type: ignore[no-untyped-call]
        total += share.detach()
    ours = [p for p in model.parameters() if p.requires_grad]
    gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in ours]
    return total, torch.cat(gradients).clone()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
