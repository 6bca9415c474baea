"""The base optimizers that SAM, LPF-SGD and NSO wrap, as parameters that their entries share.

SGD with momentum mu and weight decay lambda (coupled: added to the gradient), torch.optim.SGD, dampening 0:

    d = g + lambda w,   b = mu b + d (b = d at first),   w = w - lr b   (Nesterov: w - lr (d + mu b))

Adam and AdamW are those of `baselines.adam`. All use torch's fused kernels: one pass over the memory. With
`clip` c > 0 each takes its step with g min(1, c / ||g||_2), the norm over all parameters and without weight
decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, AdamW, Optimizer

from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.space import LogUniform
from suite.spec import Param

LR = Param(0.1, "initial learning rate", low=0, search=LogUniform(1e-4, 1.0))
MOMENTUM = Param(0.9, "momentum of SGD", low=0, high=1, high_open=True)
NESTEROV = Param(False, "Nesterov momentum of SGD")
WEIGHT_DECAY = Param(
    5e-4,
    "weight decay; coupled, that is added to the gradient",
    low=0,
    search=LogUniform(1e-5, 1e-2, zero=True),
)
BETA1 = Param(0.9, "decay of the mean of gradients", low=0, high=1, high_open=True)
BETA2 = Param(0.999, "decay of the mean of squared gradients", low=0, high=1, high_open=True)
EPS = Param(1e-8, "added to the denominator", low=0)
AMSGRAD = Param(False, "divide by the largest second moment so far")
CLIP = Param(
    0.0, "largest norm, over all parameters, of the gradient that the step is taken with; 0: any", low=0
)

SGD_PARAMS: dict[str, Param] = {
    "lr": LR,
    "momentum": MOMENTUM,
    "nesterov": NESTEROV,
    "weight_decay": WEIGHT_DECAY,
    "clip": CLIP,
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
"""Parameters that an entry declares for its base optimizer; those of other bases have no effect."""


def make_base(params: Parameters, hyper: Mapping[str, Any]) -> Optimizer:
    """Construct the torch optimizer that `hyper["base"]` (default sgd) names; with `clip`, it clips first.

    Coupled decay (sgd, adam) and decoupled decay (adamw) share the name `weight_decay`, not the meaning.
    """
    kind = hyper.get("base", "sgd")
    base: Optimizer
    if kind == "sgd":
        base = SGD(
            params.tensors,
            lr=hyper["lr"],
            momentum=hyper["momentum"],
            nesterov=hyper["nesterov"] and hyper["momentum"] > 0,
            weight_decay=hyper["weight_decay"],
            fused=True,
        )
    else:
        base = (AdamW if kind == "adamw" else Adam)(
            params.tensors,
            lr=hyper["lr"],
            betas=(hyper["beta1"], hyper["beta2"]),
            eps=hyper["eps"],
            weight_decay=hyper["weight_decay"],
            amsgrad=hyper["amsgrad"],
            fused=True,
        )
    if hyper["clip"] > 0:
        base.register_step_pre_hook(partial(_clip_first, max_norm=hyper["clip"]))
    return base


def _clip_first(base: Optimizer, args: object, kwargs: object, *, max_norm: float) -> None:
    clip_grad_norm_([p for group in base.param_groups for p in group["params"]], max_norm)
