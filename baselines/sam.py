"""Sharpness-Aware Minimization (Foret et al., arXiv 2010.01412) and adaptive SAM (arXiv 2102.11600).

One step, with mini-batch loss L and base optimizer B (Algorithm 1, eq. 2 with p = 2):

    g   = grad L(w)
    eps = rho g / (||g||_2 + 1e-12)                          norm over all parameters, no weight decay in g
    G   = grad L(w + eps)                                    same mini-batch
    w   = B(w, G)                                            momentum and weight decay at the clean w

If several ranks share a mini-batch, g is the gradient of the whole mini-batch (`ascent=global`), or each rank
ascends along the gradient of its own slice and G is the mean over ranks (`ascent=rank`): the m-SAM of the
paper's section 4.1, with m the size of a rank's slice. On one rank the two are equal.

Adaptive: eps = rho w^2 g / (|| |w| g ||_2 + 1e-12), elementwise.

This is davda54/sam, the port that most PyTorch work uses, including LPF-SGD's and NSO's baselines. Where
it departs from the papers: its ASAM has no `|w| + eta` and adapts biases and BatchNorm parameters as
well; its rho = 2.0 corresponds to 0.5 in the ASAM paper. Its example freezes BatchNorm's running
statistics in the second pass (`frozen_stats`, the default here); no rule for them was found in the SAM
paper, and LPF-SGD's SAM baseline updates them in both passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from baselines.bases import BASE_PARAMS, make_base
from baselines.wrapper import Wrapper
from suite.objective import Objective
from suite.parameters import Parameters
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


class SAM(Wrapper):
    """Sharpness-aware minimization around a base optimizer; 2 gradients per step.

    Args:
        base: a constructed torch optimizer.
        rho: radius of the perturbation, in the norm of the weights.
        adaptive: ASAM's elementwise scaling by the weights.
        frozen_stats: do not update BatchNorm's running statistics in the second pass.
        ascent_by_rank: ascend along the gradient of this rank's own slice.

    """

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        adaptive: bool = False,
        frozen_stats: bool = True,
        ascent_by_rank: bool = False,
    ) -> None:
        super().__init__(base)
        self.rho, self.adaptive, self.frozen_stats = rho, adaptive, frozen_stats
        self.ascent_by_rank = ascent_by_rank
        self._perturbed = torch.empty_like(self.flat.theta)
        self._views = self.flat.views(self._perturbed)

    def evaluate(self, objective: Objective) -> Tensor:
        """Leave the gradient at w + eps; return the loss at w."""
        loss = objective(across_ranks=not self.ascent_by_rank)
        self._climb()
        self._drop_gradients()
        self._evaluate_at(self._views, objective, track_stats=not self.frozen_stats)
        return loss

    @torch.no_grad()
    def _climb(self) -> None:
        """Write w + eps into the buffer, from the gradient at w; the norm stays on the device."""
        theta, e = self.flat.theta, self._perturbed
        self._flatten_gradients(e)
        if self.adaptive:
            e.mul_(theta)
        scale = self.rho / (torch.linalg.vector_norm(e) + 1e-12)
        if self.adaptive:
            e.mul_(theta)
        torch.addcmul(theta, e, scale, out=e)


def _build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> SAM:
    return SAM(
        make_base(params, hyper),
        rho=hyper["rho"],
        adaptive=hyper["adaptive"],
        frozen_stats=hyper["frozen_stats"],
        ascent_by_rank=hyper["ascent"] == "rank",
    )


OPTIMIZERS = [
    OptimizerSpec(
        name="sam",
        version="2",
        summary="sharpness-aware minimization: the gradient at the end of a step of length rho uphill",
        source="arXiv 2010.01412, 2102.11600; davda54/sam",
        params={
            "rho": Param(0.05, "radius of the perturbation", low=0, search=LogUniform(0.01, 2.0, zero=True)),
            "adaptive": Param(False, "ASAM's elementwise scaling", implies={True: {"rho": 2.0}}),
            "frozen_stats": Param(True, "leave BatchNorm's running statistics alone in the second pass"),
            "ascent": Param(
                "global",
                "whose gradient the ascent takes: of the whole mini-batch, or of each rank's slice (m-SAM)",
                choices=("global", "rank"),
            ),
            **BASE_PARAMS,
        },
        cost=lambda hyper: 2,
        build=_build,
        zero={"rho": 0.0, "frozen_stats": True},
        perturbs=True,
    )
]
