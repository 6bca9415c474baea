"""Adam (arXiv 1412.6980, Algorithm 1) and, as its option, AdamW (arXiv 1711.05101, Algorithm 2).

At step t, counted from 1, with gradient g:

    coupled (Adam):      g = g + lambda w
    decoupled (AdamW):   w = w (1 - lr lambda)
    m = beta1 m + (1 - beta1) g,     v = beta2 v + (1 - beta2) g^2
    w = w - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)

These are torch.optim.Adam and AdamW. There the learning rate also scales AdamW's decay; the paper scales it
by the schedule multiplier eta_t alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baselines.bases import AMSGRAD, BETA1, BETA2, CLIP, EPS, WEIGHT_DECAY, make_base
from baselines.wrapper import Plain
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


def _build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> Plain:
    return Plain(make_base(params, {**hyper, "base": "adamw" if hyper["decoupled"] else "adam"}))


OPTIMIZERS = [
    OptimizerSpec(
        name="adam",
        version="2",
        summary="Adam; with decoupled=true AdamW",
        source="arXiv 1412.6980, 1711.05101; torch.optim.Adam, AdamW",
        params={
            "decoupled": Param(
                False,
                "AdamW: decay the weights instead of adding the decay to the gradient",
                implies={True: {"weight_decay": 1e-2}},
            ),
            "lr": Param(1e-3, "initial learning rate", low=0, search=LogUniform(1e-4, 1.0)),
            "beta1": BETA1,
            "beta2": BETA2,
            "eps": EPS,
            "weight_decay": WEIGHT_DECAY,
            "amsgrad": AMSGRAD,
            "clip": CLIP,
            **SHARED,
        },
        cost=lambda hyper: 1,
        build=_build,
    )
]
