"""SGD with momentum and coupled weight decay, the baseline of the other optimizers.

    d = g + lambda w,   b = mu b + d (b = d at first),   w = w - lr b      (Nesterov: w - lr (d + mu b))

This is torch.optim.SGD with dampening 0. All parameters decay, including biases and those of BatchNorm, as in
the official code of every method compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baselines.bases import SGD_PARAMS, make_base
from baselines.wrapper import Plain
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.spec import BuildContext, OptimizerSpec


def _build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> Plain:
    return Plain(make_base(params, hyper))


OPTIMIZERS = [
    OptimizerSpec(
        name="sgd",
        version="2",
        summary="stochastic gradient descent with momentum",
        source="Polyak 1964; torch.optim.SGD",
        params={**SGD_PARAMS, **SHARED},
        cost=lambda hyper: 1,
        build=_build,
    )
]
