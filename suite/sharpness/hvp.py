"""Hessian-vector products of the mean loss, by differentiation of the gradient.

    H v = d/d theta <grad L(theta), v>

Both derivatives are in reverse mode, on layers that can be differentiated twice (`suite.numerics.smooth`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from suite.batch import Batch
from suite.numerics.smooth import smooth
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
        """Return uninitialised vectors (*rows, P) on the model's device, in its dtype."""
        return self._layout.theta.new_empty(*rows, self.size)

    def products(self, group: Batch, vectors: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield H v of the mean loss over a group of examples for each v (P,), from one gradient graph.

        Memory is that of two backward passes over the group (about 3 GB for a ResNet-18 and
        125 images of 32 x 32). Each result (P,) is a new tensor. With L(w) = w_1^2 + w_2^2 / 4:

        >>> from types import SimpleNamespace
        >>> square = SimpleNamespace(device="cpu", task=SimpleNamespace(separable=True),
        ...     forward=lambda model, batch: model(batch.inputs),
        ...     losses=lambda outputs, batch: outputs.square().sum(1) / 2)
        >>> batch = Batch(inputs=torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        >>> point = Point(torch.nn.Linear(2, 1, bias=False), batch, square, seed=0)
        >>> next(Hessian(point).products(batch, [torch.tensor([3.0, 4.0])]))
        tensor([6., 2.])
        """
        gradients = self._gradients(group)
        for vector in vectors:
            with torch.enable_grad():
                # The scalar <grad L, v> replaces `grad_outputs`, for which torch imports sympy (seconds).
                pairs = zip(gradients, self._layout.views(vector), strict=True)
                slope = torch.stack([(g * v).sum() for g, v in pairs]).sum()
            if slope.requires_grad:
                parts = torch.autograd.grad(slope, self._params, retain_graph=True, materialize_grads=True)
                yield self._layout.flatten(parts)
            else:  # the loss is linear in the weights
                yield torch.zeros_like(vector)

    def _gradients(self, group: Batch) -> Sequence[Tensor]:
        point = self._point
        with torch.enable_grad(), smooth():
            loss = mean_loss(point, point.problem.forward(point.model, group), group)
            return torch.autograd.grad(loss, self._params, create_graph=True, materialize_grads=True)
