"""Steepest descent with the step that a quadratic model of the loss asks for, at most lr.

w = w - min(lr, g' g / g' H g) g        where g' H g > 0, else w - lr g
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, jvp

from suite.flat_params import FlatParams
from suite.objective import Objective
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


class Curvature(torch.optim.Optimizer):
    def __init__(self, params: Parameters, lr: float) -> None:
        super().__init__(params.tensors, {"lr": lr})
        self.flat = FlatParams(params.tensors)

    def step(self, closure: Objective) -> Tensor:  # type: ignore[override]
        self.flat.gather()
        w, function = self.flat.theta.clone(), closure.function()
        g, loss = grad_and_value(function)(w)
        hg = jvp(torch.func.grad(function), (w,), (g,))[1]
        step = (g @ g) / (g @ hg)
        lr = torch.full_like(step, self.param_groups[0]["lr"])
        self.flat.theta.sub_(torch.where(step > 0, torch.minimum(step, lr), lr) * g)
        return loss.detach()


def build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> Curvature:
    return Curvature(params, hyper["lr"])


OPTIMIZERS = [
    OptimizerSpec(
        name="curvature", version="1", summary="the step of a quadratic model", source="Cauchy 1847",
        params={"lr": Param(0.5, "longest step", low=0, search=LogUniform(1e-3, 10.0)), **SHARED},
        cost=lambda hyper: 4, build=build, needs=lambda hyper: ["function"],
    )
]  # fmt: skip
