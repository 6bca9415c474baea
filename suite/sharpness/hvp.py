"""Hessian-vector products of the mean loss, by differentiating the gradient.

    H v = d/d theta <grad L(theta), v>

always as the gradient of a gradient: products that start with a forward-mode derivative are silently wrong
through torch's own LayerNorm and BatchNorm. BatchNorm in eval mode is the affine map

    y = s x + (b - s mean),   s = weight / sqrt(var + eps),

and is computed as that here: torch's double backward of the native layer costs several times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from suite.problem import Batch
from suite.sharpness.evaluation import flat_copy, mean_loss, trainable
from suite.sharpness.point import Point


class Hessian:
    """The Hessian of the mean loss over groups of a point's examples, as an operator on flat vectors (P,)."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._params = list(trainable(point.model).values())
        self._layout = flat_copy(point.model)
        self.size: int = self._layout.theta.numel()
        """Number of trainable weights P."""

    def empty(self, *rows: int) -> Tensor:
        """Uninitialised vectors (*rows, P) on the model's device, in its dtype."""
        return self._layout.theta.new_empty(*rows, self.size)

    def products(self, group: Batch, vectors: Iterable[Tensor]) -> Iterator[Tensor]:
        """H v of the mean loss over a group of examples for each v (P,), from one graph of the gradient.

        Memory is that of two backward passes over the group (about 3 GB for a ResNet-18 and
        125 images of 32 x 32). Each result (P,) is new.
        """
        gradients = self._gradients(group)
        for vector in vectors:
            with torch.enable_grad():
                # The scalar <grad L, v> in place of `grad_outputs`, which makes torch import sympy: seconds.
                pairs = zip(gradients, self._layout.views(vector), strict=True)
                slope = torch.stack([(g * v).sum() for g, v in pairs]).sum()
            if slope.requires_grad:
                parts = torch.autograd.grad(slope, self._params, retain_graph=True, materialize_grads=True)
                yield self._layout.flatten(parts)
            else:  # the loss is linear in the weights
                yield torch.zeros_like(vector)

    def _gradients(self, group: Batch) -> Sequence[Tensor]:
        point = self._point
        with torch.enable_grad(), _AffineBatchNorm():
            loss = mean_loss(point, point.problem.forward(point.model, group), group)
            return torch.autograd.grad(loss, self._params, create_graph=True, materialize_grads=True)


class _AffineBatchNorm(TorchFunctionMode):
    """Computes every BatchNorm in eval mode as the affine map it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        function = _batch_norm if func is F.batch_norm else func
        return function(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    shift = -scale * running_mean
    shift = shift if bias is None else shift + bias
    shape = (1, -1, *(1 for _ in range(input.dim() - 2)))
    return input * scale.view(shape) + shift.view(shape)
