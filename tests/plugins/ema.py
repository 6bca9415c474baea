"""SGD evaluated at an exponential moving average of its weights: a_t = d a_{t-1} + (1 - d) w_t, a_0 = w_0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from baselines.bases import SGD_PARAMS, make_base
from baselines.wrapper import Plain
from suite.objective import Objective
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.spec import BuildContext, OptimizerSpec, Param


class EMA(Plain):
    def __init__(self, base: torch.optim.Optimizer, decay: float) -> None:
        super().__init__(base)
        self.decay, self.average = decay, [p.detach().clone() for p in self.flat.params]

    def step(self, closure: Objective) -> Tensor:  # type: ignore[override]
        loss = super().step(closure)
        torch._foreach_lerp_(self.average, [p.detach() for p in self.flat.params], 1 - self.decay)
        return loss

    def evaluation_weights(self) -> list[Tensor]:
        return self.average

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.average = [a.clone() for a in state_dict["average"]]


def build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> EMA:
    return EMA(make_base(params, hyper), hyper["decay"])


OPTIMIZERS = [
    OptimizerSpec(
        name="ema", version="1", summary="SGD evaluated at an average of its weights", source="Polyak 1990",
        params={"decay": Param(0.9, "of the average", low=0, high=1), **SGD_PARAMS, **SHARED},
        cost=lambda hyper: 1, build=build,
    )
]  # fmt: skip
