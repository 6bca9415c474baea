"""The base optimizers that SAM, LPF-SGD and NSO wrap, as parameters that their entries share.

SGD with momentum mu and weight decay lambda (coupled: added to the gradient), torch.optim.SGD, dampening 0:

    d = g + lambda w,   b = mu b + d (b = d at first),   w = w - lr b   (Nesterov: w - lr (d + mu b))

Adam and AdamW are those of `baselines.adam`. All use torch's fused kernels: one pass over the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from suite.schedule import SHARED
from suite.spec import Param

LR = Param(0.1, "initial learning rate", low=0, search="log 1e-4 1")
MOMENTUM = Param(0.9, "momentum of SGD", low=0, high=1, high_open=True)
NESTEROV = Param(False, "Nesterov momentum of SGD")
WEIGHT_DECAY = Param(
    5e-4, "weight decay; coupled, that is added to the gradient", low=0, search="0 or log 1e-5 1e-2"
)
BETA1 = Param(0.9, "decay of the mean of gradients", low=0, high=1, high_open=True)
BETA2 = Param(0.999, "decay of the mean of squared gradients", low=0, high=1, high_open=True)
EPS = Param(1e-8, "added to the denominator", low=0)
AMSGRAD = Param(False, "divide by the largest second moment so far")

SGD_PARAMS: dict[str, Param] = {
    "lr": LR,
    "momentum": MOMENTUM,
    "nesterov": NESTEROV,
    "weight_decay": WEIGHT_DECAY,
}

BASE_PARAMS: dict[str, Param] = {
    "base": Param(
        "sgd",
        "the optimizer that takes the step; lr and weight decay follow it unless given",
        choices=("sgd", "adam", "adamw"),
        implies={
            "adam": {"lr": 1e-3},
            "adamw": {"lr": 1e-3, "weight_decay": 1e-2},
        },
    ),
    **SGD_PARAMS,
    "beta1": BETA1,
    "beta2": BETA2,
    "eps": EPS,
    "amsgrad": AMSGRAD,
    **SHARED,
}
"""What an entry that wraps a base declares for it; those of the other bases have no effect."""


def make_base(params: list[nn.Parameter], hyper: Mapping[str, Any]) -> Optimizer:
    """Construct the torch optimizer that `hyper["base"]` (default sgd) names.

    Coupled decay (sgd, adam) and decoupled decay (adamw) share the name `weight_decay`, not the meaning.
    """
    kind = hyper.get("base", "sgd")
    if kind == "sgd":
        return SGD(
            params,
            lr=hyper["lr"],
            momentum=hyper["momentum"],
            nesterov=hyper["nesterov"] and hyper["momentum"] > 0,
            weight_decay=hyper["weight_decay"],
            fused=True,
        )
    return (AdamW if kind == "adamw" else Adam)(
        params,
        lr=hyper["lr"],
        betas=(hyper["beta1"], hyper["beta2"]),
        eps=hyper["eps"],
        weight_decay=hyper["weight_decay"],
        amsgrad=hyper["amsgrad"],
        fused=True,
    )
