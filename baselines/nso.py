"""Noise Stability Optimization (Zhang, Li and Ju, arXiv 2306.08553).

It minimises F(w) = E L(w + U), U ~ N(0, sigma^2 I), about L(w) + sigma^2 / 2 tr H(w). One step draws k
perturbations and evaluates each at both signs, which cancels the first-order noise (Algorithm 1):

    G = 1 / (2k) sum_j [ grad L(w + U_j) + grad L(w - U_j) ],        w = B(w, G)

The same mini-batch serves all 2k evaluations, as in the released code (the paper lets it differ between
pairs). sigma is an absolute standard deviation for every coordinate. Weight decay acts at the clean w.

Options of the released code (`nsm.py`, class NSM):

    clean_pass: one more gradient, at w, before the others. It alone then updates BatchNorm's running
        statistics, and its weight is lambda: G = lambda grad L(w) + (1 - lambda) (the above). The code runs
        it also at lambda = 0 (argparse default 0.5, scripts pass 0): 2k + 1 gradients, not the paper's 2k.
    two_point = false: +U only, 1/k sum_j grad L(w + U_j), the "noise injection" baseline, k gradients.

Without the clean pass the first evaluation, at w + U_1, updates the running statistics, once per step as in
every other method; -U_1 uses the same mini-batch and would only repeat the update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from baselines.bases import BASE_PARAMS, make_base
from baselines.wrapper import Wrapper
from suite.objective import Objective
from suite.parameters import Parameters
from suite.seeds import NormalStream
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


class NSO(Wrapper):
    """Noise stability optimization around a base optimizer; 2k gradients per step.

    Args:
        base: a constructed torch optimizer.
        sigma: standard deviation of the noise, the same for every coordinate.
        k: number of perturbations, or of pairs if `two_point`.
        two_point: evaluate at -U as well as at +U.
        clean_pass: evaluate at w first; only this evaluation then updates running statistics.
        lam: weight lambda in [0, 1) of the gradient at w; above 0 it enables the clean pass.
        noise: source of the standard normals; a draw is a function of (step, pair).

    """

    def __init__(
        self,
        base: Optimizer,
        sigma: float = 0.01,
        *,
        k: int = 1,
        two_point: bool = True,
        clean_pass: bool = False,
        lam: float = 0.0,
        noise: NormalStream | None = None,
    ) -> None:
        super().__init__(base)
        self.sigma, self.k, self.two_point, self.lam = sigma, k, two_point, lam
        self.clean_pass = clean_pass or lam > 0.0
        self.noise = NormalStream(0) if noise is None else noise
        self._perturbed = torch.empty_like(self.flat.theta)
        self._views = self.flat.views(self._perturbed)

    def evaluate(self, objective: Objective) -> Tensor:
        """Leave G; return the loss at w after a clean pass, else the mean of the perturbed losses."""
        n = self.k * (2 if self.two_point else 1)
        weight = (1.0 - self.lam) / n
        clean = objective() if self.clean_pass else None
        if self.lam > 0.0:  # the scaling by `weight` at the end applies to the clean gradient too
            torch._foreach_mul_(self._gradients(), self.lam / weight)
        elif self.clean_pass:
            self._drop_gradients()
        losses = [loss for j in range(self.k) for loss in self._pair(objective, j)]
        if weight != 1.0:
            torch._foreach_mul_(self._gradients(), weight)
        return torch.stack(losses).mean() if clean is None else clean

    def _pair(self, objective: Objective, j: int) -> Iterator[Tensor]:
        """Add the gradients at v = w + U_j and, if two-point, at w - U_j, in one buffer.

        The second point is w + (w - v), the mirror image of the first after its rounding.
        """
        theta, v = self.flat.theta, self._perturbed
        self.noise.fill_(v, self.n_steps, j)
        torch.add(theta, v, alpha=self.sigma, out=v)
        track = j == 0 and not self.clean_pass
        yield self._evaluate_at(self._views, objective, track_stats=track)
        if self.two_point:
            v.lerp_(theta, 2.0)  # theta - (theta - v) (1 - 2)
            yield self._evaluate_at(self._views, objective, track_stats=False)


def _cost(hyper: Mapping[str, Any]) -> int:
    clean = hyper["clean_pass"] or hyper["lambda"] > 0
    return int(hyper["k"] * (2 if hyper["two_point"] else 1) + clean)


def _build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> NSO:
    return NSO(
        make_base(params, hyper),
        sigma=hyper["sigma"],
        k=hyper["k"],
        two_point=hyper["two_point"],
        clean_pass=hyper["clean_pass"],
        lam=hyper["lambda"],
        noise=context.noise,
    )


OPTIMIZERS = [
    OptimizerSpec(
        name="nso",
        version="2",
        summary="noise stability optimization: gradients at w + u and w - u, averaged",
        source="arXiv 2306.08553; VirtuosoResearch/Noise-stability-optimization",
        params={
            "sigma": Param(
                0.01, "standard deviation of the noise", low=0, search=LogUniform(1e-3, 0.05, zero=True)
            ),
            "k": Param(1, "perturbations a step, of two gradients each", low=1),
            "two_point": Param(True, "evaluate at -u as well; false is plain noise injection"),
            "clean_pass": Param(
                False, "one more gradient, at w, whose running statistics count (released code)"
            ),
            "lambda": Param(
                0.0,
                "weight of the gradient at w; above 0 it makes the clean pass",
                low=0,
                high=1,
                high_open=True,
            ),
            **BASE_PARAMS,
        },
        cost=_cost,
        build=_build,
        zero={"sigma": 0.0, "k": 1},
        perturbs=True,
    )
]
