"""Promises of a task about its loss: a mean over examples, or declared as joint, and differentiable."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.conformance.promise import Broken, Faults, evidence, in_words
from suite.conformance.tasks.case import TaskCase, unchanged
from suite.conformance.tasks.model import calls
from suite.flat_params import FlatParams
from suite.objective import BatchObjective
from suite.problem import Problem
from suite.process_group import slice_bounds
from suite.seeds import Streams

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Tolerance of a loss, and of a gradient relative to its norm. Sums in another order, through a hundred
layers, lose less than half of the digits (16 and 7); the halves of a joint loss differ by a tenth or more."""

PARTS = (2, 3)

STEP = 1e-11
"""Step of the finite difference of gradients in float64, relative to the norm of the weights. At 1e-8 some
ReLUs of ResNet-20 cross their kink, whose jump is not part of the Hessian, and the error is as large as the
result. At 1e-11 none crosses on the built-in tasks, and rounding errors are 1e-6 to 1e-5 of the norm."""

PRODUCT_TOLERANCE = 1e-3
"""Tolerated relative difference of two Hessian products, for rounding. Layers with a silently wrong second
derivative are off by 0.2 to 0.4."""


def adds_up(case: TaskCase) -> Faults:
    """Loss and gradient of a mini-batch are the weighted sums of those of its slices, if declared separable.

    The model is in eval mode, where BatchNorm does not couple examples, so only the loss is judged.
    """
    problem, model, batch, dtype = case.exact()
    with unchanged("loss", problem, model, batch):
        whole, gradient = _evaluate(problem, model, batch, 1)
    if not bool(torch.isfinite(whole)):
        yield f"the loss of a mini-batch is {float(whole)} at the initial weights: not finite"
    if not case.task.separable:
        return f"a joint loss: {float(whole):.4g} for a mini-batch of {len(batch)}"
    if len(batch) < 2:
        return "not judged: a mini-batch has one example"
    tolerance = TOLERANCE[dtype]
    for parts in PARTS:
        loss, of_parts = _evaluate(problem, model, batch, parts)
        gap = float((loss - whole).abs()) / max(1.0, float(whole.abs()))
        turned = float((of_parts - gradient).norm()) / max(float(gradient.norm()), tolerance)
        what, size = ("loss", gap) if gap >= turned else ("gradient", turned)
        yield not max(gap, turned) <= tolerance and (
            f"the {what} of {len(batch)} examples is not that of its {parts} slices added up (relative "
            f"difference {size:.1e}): a loss of whole batches needs separable=False; a mean over "
            "examples must be the sum over units divided by batch.units"
        )
    return (
        f"slices add up to the whole mini-batch within {tolerance:g}, in {str(dtype).removeprefix('torch.')}"
    )


def sums(case: TaskCase) -> Faults:
    """`losses` returns one number per example, and their mean over units is `loss`."""
    if not case.task.separable:
        return "not judged: a joint loss has no losses of single examples"
    problem, model, batch, dtype = case.exact()
    with torch.no_grad(), unchanged("losses", problem, model, batch):
        outputs = problem.forward(model, batch)
        try:
            losses = problem.losses(outputs, batch)
        except NotImplementedError:
            raise Broken(
                "the loss is declared separable, but there is no losses(outputs, batch): write it, one "
                "number an example, or declare separable=False"
            ) from None
        loss = float(problem.loss(outputs, batch))
    yield tuple(losses.shape) != (len(batch),) and (
        f"losses has shape {tuple(losses.shape)} for {len(batch)} examples: one number an example, (n,), "
        "summed over its units"
    )
    mean = float(losses.double().sum()) / batch.units
    yield not abs(mean - loss) <= TOLERANCE[dtype] * max(1.0, abs(mean)) and (
        f"losses sum to {mean:.6g} a unit, loss gives {loss:.6g}: sum losses over the units of an "
        "example, and divide loss by batch.units"
    )
    return f"loss {loss:.4g}, a mean over {batch.units} unit{'s' * (batch.units != 1)}"


def _evaluate(problem: Problem, model: nn.Module, batch: Batch, parts: int) -> tuple[Tensor, Tensor]:
    """Return the loss of a mini-batch and its gradient as one vector, accumulated over `parts` slices."""
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for number in range(parts):
        part = batch.part(*slice_bounds(len(batch), number, parts))
        share = problem.loss(problem.forward(model, part), part) * (part.units / batch.units)
        share.backward()  # type: ignore[no-untyped-call]
        total += share.detach()
    ours = [p for p in model.parameters() if p.requires_grad]
    gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in ours]
    return total, torch.cat(gradients).clone()


def precisions(case: TaskCase) -> Faults:
    """Gradients are computable and finite in each declared precision."""
    for precision in case.task.precisions:
        problem = case.problem(precision=precision)
        model = case.model(problem)
        try:
            batch = case.few(problem.batch(0))
            loss = problem.loss(problem.predict(model.train(), batch), batch)
            loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - torch raises several kinds
            raise Broken(
                f"no gradient in {precision}, which precisions declares: {in_words(error)}; cast inputs to "
                "setting.dtype, or leave it out of precisions"
            ) from None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not all(bool(torch.isfinite(one).all()) for one in (loss, *gradients)):
            yield f"loss or gradient is not finite in {precision}: leave it out of precisions"
    return ", ".join(case.task.precisions)


def second_derivatives(case: TaskCase) -> Faults:
    """Second derivatives of the loss as a function exist and are correct, if declared.

    In float64 they are compared with a finite difference of gradients. If the task's code needs float32,
    which is too coarse for that, the ways to compute them are compared with each other.
    """
    if not case.task.twice_differentiable:
        return "not declared"
    try:
        evidence(calls(case))
    except Broken:
        return "not judged: forward does more with the model than call it"
    problem, model, batch, dtype = case.exact()
    flat = FlatParams(p for p in model.train().parameters() if p.requires_grad)
    objective = BatchObjective(model, problem, Streams(0))
    objective.load(0, batch)
    w, wanted = flat.theta.clone(), None
    with objective.metered():
        try:
            loss = objective.function()
            gradient = torch.func.grad(loss)
            g = gradient(w)
        except RuntimeError as error:
            raise Broken(_lacking("torch.func.grad", error)) from None
        size = max(float(g.norm()), torch.finfo(dtype).tiny)
        v = g / size
        if dtype is torch.float64:
            step = STEP * max(1.0, float(w.norm()))
            wanted = (gradient(w + step * v) - gradient(w - step * v)) / (2 * step)
        for way, product in _WAYS.items():
            try:
                found = product(loss, w, v)
            except Exception as error:  # noqa: BLE001 - torch raises several kinds
                raise Broken(_lacking(way, error)) from None
            wanted = found if wanted is None else wanted
            gap = float((found - wanted).norm()) / max(float(wanted.norm()), PRODUCT_TOLERANCE * size)
            yield not gap <= PRODUCT_TOLERANCE and (
                f"a Hessian product ({way}) is off by {gap:.1e} of its norm: some layer has a wrong "
                "second derivative; replace it, or declare twice_differentiable=False"
            )
    if dtype is torch.float64:
        return f"Hessian products, {', '.join(_WAYS)}, are those of differences of gradients"
    return f"Hessian products agree, {', '.join(_WAYS)}, in float32"


def _lacking(way: str, error: Exception) -> str:
    what = f"the loss cannot be differentiated twice ({way}): {in_words(error)}"
    return f"{what}; declare twice_differentiable=False"


def _reverse(loss: Callable[[Tensor], Tensor], w: Tensor, v: Tensor) -> Tensor:
    at = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at, create_graph=True)
    slope = (gradient * v).sum()
    if not slope.requires_grad:  # the loss is linear in the weights
        return torch.zeros_like(v)
    return torch.autograd.grad(slope, at, materialize_grads=True)[0]


_WAYS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]] = {
    "reverse over reverse": _reverse,
    "forward over reverse": lambda loss, w, v: torch.func.jvp(torch.func.grad(loss), (w,), (v,))[1],
    "reverse over forward": lambda loss, w, v: torch.func.grad(
        lambda at: torch.func.jvp(loss, (at,), (v,))[1]
    )(w),
}
