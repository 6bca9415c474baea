"""AdamW without decay of norms and biases, and with a learning rate of its own for the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import AdamW

from baselines.wrapper import Plain
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


def build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> Plain:
    groups = [
        {
            "params": [one.parameter],
            "lr": hyper["lr"] * (hyper["head"] if one.head else 1),
            "weight_decay": 0.0 if one.norm or one.bias else hyper["weight_decay"],
        }
        for one in params
    ]
    return Plain(AdamW(groups))


OPTIMIZERS = [
    OptimizerSpec(
        name="no-decay", version="1", summary="AdamW without decay of norms and biases",
        source="common practice",
        params={
            "lr": Param(3e-3, "learning rate", low=0, search=LogUniform(1e-4, 1.0)),
            "head": Param(2.0, "factor of the head's learning rate", low=0),
            "weight_decay": Param(0.1, "decoupled", low=0), **SHARED,
        },
        cost=lambda hyper: 1, build=build,
    )
]  # fmt: skip
