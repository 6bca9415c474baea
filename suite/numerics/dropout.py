"""Dropout with one mask per example and step, shared by every gradient evaluation of that step.

A two-point method (NSO) needs the same mask at +u and -u, otherwise the first-order terms do not cancel; a
method that splits the batch needs the mask rows of its slice. The layer draws the mask of the whole
mini-batch once per step from the run's `dropout` stream, at counters (step, layer, call), and applies rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from suite.seeds import Streams


class SharedDropout(nn.Module):
    """Drop-in for `nn.Dropout*` (and timm's DropPath): keep with probability 1 - p, scale by 1 / (1 - p).

    `feature_dims` is the number of leading dimensions over which the mask varies: None (all) for
    `nn.Dropout`, 2 (example, channel) for Dropout1d/2d/3d, 1 (example) for DropPath.
    """

    def __init__(self, p: float, feature_dims: int | None, index: int) -> None:
        super().__init__()
        self.p = p
        self.feature_dims = feature_dims
        self.index = index
        self._rows = (0, 0)
        self._n = 0
        self._masks: list[Tensor] = []
        self._calls = 0

    def begin_step(self, n: int) -> None:
        """Discard the masks of the last step; the next mini-batch has n examples."""
        self._n = n
        self._masks = []

    def begin_pass(self, low: int, high: int, streams: Streams, step: int) -> None:
        """Use rows [low, high) of the masks of `step` in the next forward pass."""
        self._rows, self._streams, self._step, self._calls = (low, high), streams, step, 0

    def forward(self, x: Tensor) -> Tensor:
        """Apply this step's mask to x (n_slice, ...); the identity in eval mode and at p = 0."""
        if not self.training or self.p == 0.0:
            return x
        call, self._calls = self._calls, self._calls + 1
        if call == len(self._masks):  # first pass of this step that uses the layer for the call-th time
            self._masks.append(self._draw(x, call))
        low, high = self._rows
        return x * self._masks[call][low:high]

    def _draw(self, x: Tensor, call: int) -> Tensor:
        dims = x.dim() if self.feature_dims is None else self.feature_dims
        shape = (self._n, *x.shape[1:dims], *(1 for _ in x.shape[dims:]))
        generator = self._streams.generator("dropout", self._step, self.index, call)
        keep = torch.empty(shape, dtype=x.dtype, device=x.device)
        return keep.bernoulli_(1.0 - self.p, generator=generator).div_(1.0 - self.p)


def share_dropout(model: nn.Module) -> list[SharedDropout]:
    """Replace every dropout layer of `model` in place by a `SharedDropout`; return the new layers."""
    layers: list[SharedDropout] = []
    for module in list(model.modules()):
        # Not named_children, which skips the second name of a layer registered under two names.
        for name, child in list(module._modules.items()):
            if child is not None and (shared := _shared(child, len(layers))) is not None:
                shared.train(child.training)
                setattr(module, name, shared)
                layers.append(shared)
    return layers


def _shared(layer: nn.Module, index: int) -> SharedDropout | None:
    if isinstance(layer, SharedDropout):
        return layer
    if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout):
        return None  # not a plain mask; the re-seeded global generator repeats it in every evaluation
    if isinstance(layer, _DropoutNd):
        return SharedDropout(layer.p, None if isinstance(layer, nn.Dropout) else 2, index)
    if type(layer).__name__ == "DropPath":
        return SharedDropout(float(layer.drop_prob or 0.0), 1, index)  # type: ignore[arg-type]
    return None
