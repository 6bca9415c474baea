"""SPSA (Spall 1992): g = (L(w + mu z) - L(w - mu z)) / (2 mu) z with z ~ N(0, I), and w = w - lr g."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from baselines.wrapper import Wrapper
from suite.objective import Objective
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.seeds import NormalStream
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


class SPSA(Wrapper):
    def __init__(self, base: torch.optim.Optimizer, mu: float, noise: NormalStream) -> None:
        super().__init__(base)
        self.mu, self.noise = mu, noise

    @torch.no_grad()
    def evaluate(self, objective: Objective) -> Tensor:
        flat = self.flat
        z = self.noise.fill_(torch.empty_like(flat.theta), self.n_steps)
        losses = []
        for sign in (1, -1):
            flat.attach(flat.views(flat.theta + sign * self.mu * z))
            losses.append(objective.loss())
            flat.attach()
        slope = (losses[0] - losses[1]) / (2 * self.mu)
        for p, view in zip(flat.params, flat.views(z), strict=True):
            p.grad = slope * view
        return (losses[0] + losses[1]) / 2


def build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> SPSA:
    return SPSA(torch.optim.SGD(params.tensors, lr=hyper["lr"]), hyper["mu"], context.noise)


OPTIMIZERS = [
    OptimizerSpec(
        name="spsa", version="1", summary="two losses a step, no gradient", source="Spall 1992",
        params={
            "lr": Param(0.003, "learning rate", low=0, search=LogUniform(1e-5, 1e-1)),
            "mu": Param(1e-3, "length of the probe", low=0, low_open=True), **SHARED,
        },
        cost=lambda hyper: 2 / 3, build=build, perturbs=True,
    )
]  # fmt: skip
