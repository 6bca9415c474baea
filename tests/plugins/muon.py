"""Muon for hidden matrices, AdamW for head, embeddings, norms and biases (Jordan et al. 2024).

B = mu B + G,   O = NewtonSchulz(G + mu B),   W = W (1 - lr lambda) - lr sqrt(max(1, rows / columns)) O
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from suite.objective import Objective
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


def orthogonal(g: Tensor) -> Tensor:
    """Push the singular values of g to about 1 by five steps of a quintic Newton-Schulz iteration."""
    x = g.flatten(1) / (g.norm() + 1e-7)
    x = x.T if tall(x) else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall(g.flatten(1)) else x).reshape(g.shape)


def tall(x: Tensor) -> bool:
    return x.shape[0] > x.shape[1]


class Muon(torch.optim.AdamW):
    """AdamW whose groups with `momentum` are stepped by Muon."""

    def step(self, closure: Objective) -> Tensor:  # type: ignore[override]
        self.zero_grad()
        loss = closure()
        matrices, _ = self.param_groups
        for p in matrices["params"]:
            if p.grad is not None:
                state = self.state[p]
                if not state:  # AdamW looks for its step in every state that it loads
                    state.update(step=torch.zeros(()), b=torch.zeros_like(p))
                b = state["b"].mul_(matrices["momentum"]).add_(p.grad)
                scale = max(1.0, p.shape[0] / p[0].numel()) ** 0.5
                with torch.no_grad():
                    p.mul_(1 - matrices["lr"] * matrices["weight_decay"])
                    p.sub_(orthogonal(p.grad + matrices["momentum"] * b), alpha=matrices["lr"] * scale)
                p.grad = None  # AdamW passes over it
        super().step()
        return loss


def build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> Muon:
    hidden = [one.parameter for one in params if one.hidden_matrix]
    rest = [one.parameter for one in params if not one.hidden_matrix]
    groups = [{"params": hidden, "momentum": 0.95}, {"params": rest, "lr": hyper["adam_lr"]}]
    return Muon(groups, lr=hyper["lr"], weight_decay=hyper["weight_decay"])


OPTIMIZERS = [
    OptimizerSpec(
        name="muon", version="1", summary="orthogonalised momentum for hidden matrices",
        source="Jordan et al. 2024",
        params={
            "lr": Param(0.02, "of Muon", low=0, search=LogUniform(1e-4, 1.0)),
            "adam_lr": Param(3e-3, "of AdamW", low=0),
            "weight_decay": Param(0.01, "decoupled", low=0), **SHARED,
        },
        cost=lambda hyper: 1, build=build,
    )
]  # fmt: skip
