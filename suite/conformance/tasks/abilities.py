"""Promises of a task about what it can give: its precisions, and a loss that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from suite.conformance.check import Broken, in_words
from suite.conformance.tasks.case import TaskCase
from suite.conformance.tasks.model import calls
from suite.objective import BatchObjective
from suite.params import FlatParams
from suite.seeds import Streams

STEP = 1e-11
"""Of the difference of gradients in float64, relative to the norm of the weights. At 1e-8 the rectified units
of ResNet-20 cross kinks, whose jumps are no part of a Hessian: the difference is then off by all of its norm.
At 1e-11 none does on the built-in tasks, and rounding is 1e-6 to 1e-5 of the norm."""

TOLERANCE = 1e-3
"""Relative difference of two Hessian products, for rounding. Layers whose second derivative is silently wrong
are off by 0.2 to 0.4."""


def precisions(case: TaskCase) -> str:
    """A gradient can be had in each declared precision, and is finite."""
    for precision in case.task.precisions:
        problem = case.problem(precision=precision)
        model = case.model(problem)
        try:
            batch = case.few(problem)
            loss = problem.loss(problem.predict(model.train(), batch), batch)
            loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - torch raises several kinds
            raise Broken(
                f"no gradient in {precision}, which precisions declares: {in_words(error)}; cast inputs to "
                "setting.dtype, or leave it out of precisions"
            ) from None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not all(bool(torch.isfinite(one).all()) for one in (loss, *gradients)):
            raise Broken(f"loss or gradient is not finite in {precision}: leave it out of precisions")
    return ", ".join(case.task.precisions)


def function(case: TaskCase) -> str:
    """Second derivatives of the loss as a function are there and right, where they are declared.

    They are compared with a difference of gradients, for which only float64 is exact enough; where the task's
    code cannot compute in that, two ways to get them are compared.
    """
    if not case.task.twice_differentiable:
        return "not declared"
    try:
        calls(case)
    except Broken:
        return "not judged: forward does more with the model than call it"
    try:
        _products(case, torch.float64)
    except _Unfit:
        _products(case, torch.float32)
        return f"Hessian products agree, {', '.join(_WAYS)}, in float32"
    return f"Hessian products, {', '.join(_WAYS)}, are those of differences of gradients"


class _Unfit(Exception):  # noqa: N818 - not an error
    """The task's code cannot compute in float64."""


def _products(case: TaskCase, dtype: torch.dtype) -> None:
    problem = case.problem(dtype=dtype)
    model = case.model(problem).train()
    flat = FlatParams(p for p in model.parameters() if p.requires_grad)
    objective = BatchObjective(model, problem, Streams(0))
    objective.load(0, case.few(problem).to(problem.device, dtype))
    w = flat.theta.clone()
    with objective.metered():
        try:
            loss = objective.function()
            gradient = torch.func.grad(loss)
            g = gradient(w)
        except RuntimeError as error:
            if dtype is torch.float64:
                raise _Unfit from None
            raise Broken(_lacking("torch.func.grad", error)) from None
        size = max(float(g.norm()), torch.finfo(dtype).tiny)
        v = g / size
        wanted = None
        if dtype is torch.float64:
            step = STEP * max(1.0, float(w.norm()))
            wanted = (gradient(w + step * v) - gradient(w - step * v)) / (2 * step)
        for way, product in _WAYS.items():
            try:
                found = product(loss, w, v)
            except Exception as error:  # noqa: BLE001 - torch raises several kinds
                raise Broken(_lacking(way, error)) from None
            wanted = found if wanted is None else wanted
            gap = float((found - wanted).norm()) / max(float(wanted.norm()), TOLERANCE * size)
            if not gap <= TOLERANCE:
                raise Broken(
                    f"a Hessian product ({way}) is off by {gap:.1e} of its norm: some layer has a wrong "
                    "second derivative; replace it, or declare twice_differentiable=False"
                )


def _lacking(way: str, error: Exception) -> str:
    what = f"the loss cannot be differentiated twice ({way}): {in_words(error)}"
    return f"{what}; declare twice_differentiable=False"


def _reverse(loss: Callable[[Tensor], Tensor], w: Tensor, v: Tensor) -> Tensor:
    at = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at, create_graph=True)
    slope = (gradient * v).sum()
    if not slope.requires_grad:  # linear in the weights
        return torch.zeros_like(v)
    product: Tensor = torch.autograd.grad(slope, at, materialize_grads=True)[0]
    return product


def _forward(loss: Callable[[Tensor], Tensor], w: Tensor, v: Tensor) -> Tensor:
    product: Tensor = torch.func.jvp(torch.func.grad(loss), (w,), (v,))[1]
    return product


def _forward_first(loss: Callable[[Tensor], Tensor], w: Tensor, v: Tensor) -> Tensor:
    product: Tensor = torch.func.grad(lambda at: torch.func.jvp(loss, (at,), (v,))[1])(w)
    return product


_WAYS = {
    "reverse over reverse": _reverse,
    "forward over reverse": _forward,
    "reverse over forward": _forward_first,
}
