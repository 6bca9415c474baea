"""LPF-SGD: SGD on the loss under a low-pass filter (Bisla, Wang and Choromanska, arXiv 2201.08025).

It minimises (L * K)(w) = E L(w + n), n ~ K Gaussian. One step t splits the mini-batch into M parts B_j and
draws fresh noise for each (released code, `lpf_train.py`):

    n_j ~ N(0, (gamma_t s(w))^2),   G = sum_j |B_j| / |B| grad L(w + n_j; B_j),   w = B(w, G)
    gamma_t = gamma_0 (1 + (alpha - 1) (1 - cos(pi t / T)) / 2)      released `CosineInc`; alpha 1: constant

Momentum and weight decay act at the clean w. Each example is used once: 1 gradient per step for any M.
The scale s(w) is an explicit choice, see `suite.flat_params.FlatParams.scales`: `filter` is that of the
released code, `tensor` that of the runs behind the paper's ResNet tables (8 to 23 times more noise at equal
gamma).

Where code and paper disagree: gamma multiplies the standard deviation, while the paper's supplement
writes the covariance gamma diag(||w||); alpha gamma_0 is the last value. Where this file departs from the
code: weights are not restored by subtraction; parts are weighted by their size, which the code does not
do for a short last batch; leftover parts of an epoch are not carried into the next. Every part updates the
running statistics of BatchNorm at its noisy weights, as in the code: with M = 8 and 128 examples, BatchNorm
normalises over 16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from baselines.bases import BASE_PARAMS, make_base
from baselines.wrapper import Wrapper
from suite.flat_params import NOISE_SCALES
from suite.objective import Objective
from suite.parameters import Parameters
from suite.seeds import NormalStream
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


def gamma_at(step: int, gamma: float, alpha: float, total_steps: int) -> float:
    """Return gamma_t of the released CosineInc at `step`, 0-based: gamma at 0, alpha gamma at T.

    >>> [round(gamma_at(step, gamma=0.1, alpha=3.0, total_steps=4), 6) for step in (0, 2, 4)]
    [0.1, 0.2, 0.3]
    """
    return gamma * (1.0 + (alpha - 1.0) * (1.0 - math.cos(math.pi * step / total_steps)) / 2.0)


class LPFSGD(Wrapper):
    """SGD, or another base, on the Gaussian-smoothed loss; 1 gradient per step.

    Args:
        base: a constructed torch optimizer.
        gamma: noise scale gamma_0, in units of `scale`.
        parts: number M of parts of the mini-batch, each with its own noise.
        scale: unit of gamma: `filter`, `tensor`, `element` or `absolute`.
        alpha: gamma grows to alpha gamma_0 over `total_steps`.
        total_steps: the length T of the schedule; required if alpha is not 1.
        noise: source of the standard normals; a draw is a function of (step, part).

    """

    def __init__(
        self,
        base: Optimizer,
        gamma: float = 0.002,
        *,
        parts: int = 1,
        scale: str = "filter",
        alpha: float = 1.0,
        total_steps: int = 1,
        noise: NormalStream | None = None,
    ) -> None:
        super().__init__(base)
        self.gamma, self.alpha, self.total_steps = gamma, alpha, total_steps
        self.parts, self.scale = parts, scale
        self.noise = NormalStream(0) if noise is None else noise
        self._perturbed = torch.empty_like(self.flat.theta)
        self._views = self.flat.views(self._perturbed)
        self._scale = torch.empty_like(self.flat.theta)
        self._scale_views = self.flat.views(self._scale)

    def evaluate(self, objective: Objective) -> Tensor:
        """Leave the gradient averaged over noisy parts; return the sum of their shares of the loss."""
        # The clean weights do not change within the step, so one computation of scales serves every part.
        torch._foreach_copy_(self._scale_views, self.flat.scales(self.scale))
        gamma = gamma_at(self.n_steps, self.gamma, self.alpha, self.total_steps)
        total: Tensor | None = None
        for part in range(self.parts):
            self._perturb(gamma, part)
            loss = self._evaluate_at(self._views, objective, part, self.parts)
            total = loss if total is None else total + loss
        assert total is not None
        return total

    @torch.no_grad()
    def _perturb(self, gamma: float, part: int) -> None:
        z = self.noise.fill_(self._perturbed, self.n_steps, part)
        torch.addcmul(self.flat.theta, self._scale, z, value=gamma, out=z)


def _build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> LPFSGD:
    return LPFSGD(
        make_base(params, hyper),
        gamma=hyper["gamma"],
        parts=hyper["M"],
        scale=hyper["scale"],
        alpha=hyper["alpha"],
        total_steps=context.total_steps,
        noise=context.noise,
    )


OPTIMIZERS = [
    OptimizerSpec(
        name="lpf-sgd",
        version="2",
        summary="SGD on the loss under a Gaussian low-pass filter: noise scaled to the weights",
        source="arXiv 2201.08025; devansh20la/LPF-SGD",
        params={
            "gamma": Param(0.002, "noise scale gamma_0", low=0, search=LogUniform(1e-4, 0.02, zero=True)),
            "M": Param(1, "parts of the mini-batch, each under its own noise", low=1),
            "scale": Param("filter", "what gamma is relative to", choices=NOISE_SCALES),
            "alpha": Param(1.0, "gamma grows to alpha gamma_0 along a cosine; 1 keeps it constant", low=0),
            **BASE_PARAMS,
        },
        cost=lambda hyper: 1,
        build=_build,
        zero={"gamma": 0.0, "M": 1},
        perturbs=True,
        needs=lambda hyper: ["parts"] if hyper["M"] > 1 else [],
    )
]
