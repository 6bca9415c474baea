"""AdaBelief (Zhuang et al., arXiv 2010.07468, Algorithm 2): Adam with (g - m)^2 in place of g^2.

At step t, counted from 1, with gradient g:

    coupled:    g = g + lambda w                decoupled:  w = w (1 - lr lambda)   (fixed: w (1 - lambda))
    m = beta1 m + (1 - beta1) g
    s = beta2 s + (1 - beta2) (g - m)^2 + eps   the new m; eps is accumulated into the state
    w = w - lr / (1 - beta1^t) * m / (sqrt(s / (1 - beta2^t)) + eps)

Because eps accumulates in s, sqrt(s / (1 - beta2^t)) is at least sqrt(eps / (1 - beta2)) = 3.2e-3 at
eps = 1e-8: eps limits the step, it does not only prevent a division by zero. amsgrad divides by the largest s
so far. `rectify` is RAdam's rule (arXiv 1908.03265) as in the released code, with N_inf = 2 / (1 - beta2) - 1
and N = N_inf - 2 t beta2^t / (1 - beta2^t):

    N >= 5:  w = w - lr r / (1 - beta1^t) * m / (sqrt(s) + eps),
             r^2 = (1 - beta2^t) (N - 4) (N - 2) N_inf / ((N_inf - 4) (N_inf - 2) N)      (amsgrad is ignored)
    else:    w = w - lr / (1 - beta1^t) * m if `degenerated_to_sgd`, no update otherwise

Where code and paper disagree: the released defaults changed silently between version 0.0.5 (eps 1e-8,
coupled, no rectification) and versions 0.1 to 0.2 (eps 1e-16, decoupled, rectified). The paper's experiments
use the former, without rectification and amsgrad; their CIFAR setting with weight decay 5e-4 is the default
here (`preset=cifar`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from baselines.bases import AMSGRAD, BETA1, BETA2, CLIP, WEIGHT_DECAY
from suite.objective import Objective
from suite.parameters import Parameters
from suite.schedule import SHARED
from suite.space import LogUniform
from suite.spec import BuildContext, OptimizerSpec, Param


class AdaBelief(Optimizer):
    """AdaBelief, 1 gradient per step; it can also be the base of another optimizer.

    The update uses `.grad` as scratch memory and sets it to None afterwards.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of m and of s.
        eps: added to s, into the state, at every step, and to its root.
        weight_decay: lambda, coupled unless `decoupled`.
        decoupled: decay the weights directly, times lr unless `fixed_decay`.
        fixed_decay: decoupled decay without the factor lr.
        rectify: RAdam's rectification.
        degenerated_to_sgd: step along m while the variance of the step is undefined.
        amsgrad: divide by the largest s so far.
        clip: maximum norm of the gradient over all parameters; 0: no clipping.

    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        fixed_decay: bool = False,
        rectify: bool = False,
        degenerated_to_sgd: bool = True,
        amsgrad: bool = False,
        clip: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
            "fixed_decay": fixed_decay,
            "rectify": rectify,
            "degenerated_to_sgd": degenerated_to_sgd,
            "amsgrad": amsgrad,
        }
        super().__init__(params, defaults)
        self.clip = clip

    def step(self, closure: Objective | None = None) -> Tensor | None:  # type: ignore[override]
        """Take one step with the gradient of `closure`, an objective; None: with the present gradients.

        Returns:
            The batch's loss at the weights before the step, a detached 0-dim tensor; None without a closure.

        """
        loss = None
        if closure is not None:
            self.zero_grad()
            loss = closure()
        if self.clip > 0:
            clip_grad_norm_([p for group in self.param_groups for p in group["params"]], self.clip)
        for group in self.param_groups:
            by_step: defaultdict[int, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_step[self._advance(p, group["amsgrad"])].append(p)
            for t, params in by_step.items():  # one item, unless some parameters had no gradient before
                self._update(group, params, t)
        return loss

    def _advance(self, p: nn.Parameter, amsgrad: bool) -> int:
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_var"] = torch.zeros_like(p)
            if amsgrad:
                state["max_exp_avg_var"] = torch.zeros_like(p)
        state["step"] += 1
        return int(state["step"])

    @torch.no_grad()
    def _update(self, group: Mapping[str, Any], params: list[nn.Parameter], t: int) -> None:
        state = [self.state[p] for p in params]
        lists: list[list[Tensor]] = [
            [p.data for p in params],
            [p.grad for p in params if p.grad is not None],
            [s["exp_avg"] for s in state],
            [s["exp_avg_var"] for s in state],
        ]
        if group["amsgrad"]:
            lists.append([s["max_exp_avg_var"] for s in state])
        for batch in _in_cache(lists) if params[0].device.type == "cpu" else [lists]:
            _update_tensors(group, t, *batch)
        for p in params:
            p.grad = None


def _update_tensors(
    group: Mapping[str, Any],
    t: int,
    w: list[Tensor],
    g: list[Tensor],
    m: list[Tensor],
    s: list[Tensor],
    largest: list[Tensor] | None = None,
) -> None:
    lr, eps, decay = group["lr"], group["eps"], group["weight_decay"]
    beta1, beta2 = group["betas"]
    if decay and group["decoupled"]:
        torch._foreach_mul_(w, 1.0 - (decay if group["fixed_decay"] else lr * decay))
    elif decay:
        torch._foreach_add_(g, w, alpha=decay)
    torch._foreach_lerp_(m, g, 1.0 - beta1)
    torch._foreach_sub_(g, m)
    torch._foreach_mul_(s, beta2)
    torch._foreach_addcmul_(s, g, g, 1.0 - beta2)
    torch._foreach_add_(s, eps)
    if largest is not None:
        torch._foreach_maximum_(largest, s)

    step_size = lr / (1.0 - beta1**t)
    if not group["rectify"]:
        # m / (sqrt(s) / c + eps) = c m / (sqrt(s) + c eps) saves one pass over the memory.
        c = math.sqrt(1.0 - beta2**t)
        _step(w, m, s if largest is None else largest, eps * c, step_size * c, scratch=g)
    elif (r := rectification(beta2, t)) is not None:
        _step(w, m, s, eps, step_size * r, scratch=g)
    elif group["degenerated_to_sgd"]:
        torch._foreach_add_(w, m, alpha=-step_size)


def _step(
    w: list[Tensor], m: list[Tensor], s: list[Tensor], eps: float, step_size: float, scratch: list[Tensor]
) -> None:
    """W -= step_size * m / (sqrt(s) + eps), in place."""
    torch._foreach_copy_(scratch, s)
    torch._foreach_sqrt_(scratch)
    torch._foreach_add_(scratch, eps)
    torch._foreach_addcdiv_(w, m, scratch, -step_size)


BLOCK = 1 << 16
"""Number of elements that pass through all operations together on a CPU, so that they stay in its cache."""


def _in_cache(lists: Sequence[Sequence[Tensor]]) -> Iterator[list[list[Tensor]]]:
    """Yield batches of corresponding tensors with about BLOCK elements; large tensors are split."""
    batch: list[list[Tensor]] = [[] for _ in lists]
    n = 0
    for tensors in zip(*lists, strict=True):
        for pieces in _pieces(tensors):
            if n > 0 and n + pieces[0].numel() > BLOCK:
                yield batch
                batch, n = [[] for _ in lists], 0
            n += pieces[0].numel()
            for column, piece in zip(batch, pieces, strict=True):
                column.append(piece)
    yield batch


def _pieces(tensors: tuple[Tensor, ...]) -> Iterable[tuple[Tensor, ...]]:
    first = tensors[0]
    dense = first.is_contiguous() or first.is_contiguous(memory_format=torch.channels_last)
    if first.numel() <= BLOCK or not dense or any(t.stride() != first.stride() for t in tensors):
        return [tensors]  # in unequal memory orders, whole tensors still match elements by index
    return zip(*(torch.split(t.as_strided((t.numel(),), (1,)), BLOCK) for t in tensors), strict=True)


def rectification(beta2: float, t: int) -> float | None:
    """Return RAdam's factor r at step t, counted from 1, or None while N < 5, where it is undefined.

    >>> rectification(0.999, 5), round(rectification(0.999, 6), 6), round(rectification(0.999, 10_000), 2)
    (None, 0.001998, 1.0)
    """
    n_inf = 2.0 / (1.0 - beta2) - 1.0
    rest = beta2**t
    n = n_inf - 2.0 * t * rest / (1.0 - rest)
    if n < 5.0:
        return None
    return math.sqrt((1.0 - rest) * (n - 4.0) / (n_inf - 4.0) * (n - 2.0) / n * n_inf / (n_inf - 2.0))


_SWITCHES = ("decoupled", "fixed_decay", "rectify", "degenerated_to_sgd", "amsgrad")


def _build(params: Parameters, hyper: Mapping[str, Any], context: BuildContext) -> AdaBelief:
    return AdaBelief(
        params.tensors,
        lr=hyper["lr"],
        betas=(hyper["beta1"], hyper["beta2"]),
        eps=hyper["eps"],
        weight_decay=hyper["weight_decay"],
        **{name: hyper[name] for name in _SWITCHES},
        clip=hyper["clip"],
    )


OPTIMIZERS = [
    OptimizerSpec(
        name="adabelief",
        version="2",
        summary="AdaBelief: Adam with the variance of the gradient around its mean in the denominator",
        source="arXiv 2010.07468; adabelief-pytorch 0.0.5 and 0.2.1",
        params={
            "preset": Param(
                "cifar",
                "defaults of a released line, 0.0.5 or 0.2 (and 0.1); cifar: 0.0.5 with the paper's decay",
                choices=("cifar", "0.0.5", "0.2"),
                implies={
                    "0.0.5": {"weight_decay": 0.0},
                    "0.2": {"eps": 1e-16, "weight_decay": 0.0, "decoupled": True, "rectify": True},
                },
            ),
            "lr": Param(1e-3, "initial learning rate", low=0, search=LogUniform(1e-4, 1.0)),
            "beta1": BETA1,
            "beta2": BETA2,
            "eps": Param(1e-8, "added to the state at every step, and to the denominator", low=0),
            "weight_decay": WEIGHT_DECAY,
            "decoupled": Param(False, "decay the weights instead of adding the decay to the gradient"),
            "fixed_decay": Param(False, "decoupled decay without the factor lr"),
            "rectify": Param(False, "RAdam's rectification"),
            "degenerated_to_sgd": Param(True, "with rectify: step along the mean in the first steps"),
            "amsgrad": AMSGRAD,
            "clip": CLIP,
            **SHARED,
        },
        cost=lambda hyper: 1,
        build=_build,
    )
]
