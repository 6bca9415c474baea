"""Parameter vectors: a model's weights as views of one flat buffer, and Gaussian noise scaled to them.

Optimizers and measures use it. Perturbed weights are written to a second buffer, or clean weights restored by
copy, never by subtraction of the noise: rounding would change them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from suite.errors import SteppeError

NOISE_SCALES = ("filter", "tensor", "element", "absolute")
"""Kinds of scaling of noise to the weights, see `FlatParams.scales`."""

_TINY = 1e-16  # from the released LPF-SGD: a tensor of zeros gets (almost) no noise


class FlatParams:
    """The parameters of a model as views of one flat buffer `theta` (P,), each in its own memory order.

    Parameters keep the given order, and `channels_last` parameters their strides, so that row i of dimension
    0 (a filter) is contiguous. The constructor moves `p.data` into `theta`; values do not change.

    Raises:
        SteppeError: no parameter, a repeated parameter, or parameters of several dtypes or devices.

    """

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        self.params: list[nn.Parameter] = list(params)
        kinds = {(p.dtype, p.device) for p in self.params}
        if len(kinds) != 1 or len({id(p) for p in self.params}) != len(self.params):
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
            raise SteppeError(f"parameters must be distinct, of one dtype and on one device; found: {found}")
        self._strides = [memory_strides(p) for p in self.params]
        self.theta: Tensor = torch.empty(sum(p.numel() for p in self.params), dtype=self.params[0].dtype,
                                         device=self.params[0].device)  # fmt: skip
        self._theta_views = self.views(self.theta)
        self._pointers = [view.data_ptr() for view in self._theta_views]
        self._backup: Tensor | None = None
        self._noise_scales: dict[str, list[Tensor]] = {}
        self.gather()

    def gather(self) -> None:
        """Move parameters whose memory was replaced (for instance by `model.to(...)`) back into `theta`."""
        if [p.data_ptr() for p in self.params] == self._pointers:
            return
        with torch.no_grad():
            for p, view in zip(self.params, self._theta_views, strict=True):
                if p.data_ptr() != view.data_ptr():
                    view.copy_(p)
                    p.data = view

    def views(self, flat: Tensor) -> list[Tensor]:
        """Split a vector (P,) into views, one for each parameter, with its shape and strides."""
        out, offset = [], 0
        for p, strides in zip(self.params, self._strides, strict=True):
            out.append(flat.as_strided(p.shape, strides, flat.storage_offset() + offset))
            offset += p.numel()
        return out

    def flatten(self, tensors: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """Copy tensors shaped like the parameters, in any memory order, into a vector (P,)."""
        flat = torch.empty_like(self.theta) if out is None else out
        with torch.no_grad():
            torch._foreach_copy_(self.views(flat), list(tensors))
        return flat

    def attach(self, views: Sequence[Tensor] | None = None) -> None:
        """Point the parameters at `views` (of another buffer); with None back at `theta`.

        This perturbs without a copy of the clean weights: write perturbed weights to another buffer, attach
        its views, evaluate, attach None. `theta` never changes.
        """
        for p, view in zip(self.params, self._theta_views if views is None else views, strict=True):
            p.data = view

    def save(self) -> None:
        """Copy the weights, for `restore` and as the clean weights in `scale_noise_`."""
        if self._backup is None:
            self._backup = torch.empty_like(self.theta)
        self._backup.copy_(self.theta)
        self._noise_scales.clear()

    def restore(self) -> None:
        """Restore the weights of the last `save`, bit for bit."""
        self.theta.copy_(self._saved())

    def _saved(self) -> Tensor:
        if self._backup is None:
            raise SteppeError("FlatParams: save() the weights before restoring them or scaling noise by them")
        return self._backup

    def scales(self, kind: str, flat: Tensor | None = None) -> list[Tensor]:
        """Return the factors of standard normal noise: for each parameter a tensor that broadcasts to it.

        With theta_i a parameter (of `flat`, default `theta`) and a an index of its dimension 0:

        - `filter` (released LPF-SGD): ||theta_i[a]||_2; a parameter of one dimension: ||theta_i||_2 + 1e-16
        - `tensor` (the LPF-SGD paper's ResNet runs): ||theta_i||_2 + 1e-16
        - `element`: |theta_i|
        - `absolute`: 1

        >>> flat = FlatParams([nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))])
        >>> flat.scales("filter")[0].flatten().tolist()
        [5.0, 2.0]
        """
        views = self._theta_views if flat is None else self.views(flat)
        if kind == "element":
            return [view.abs() for view in views]
        if kind == "absolute":
            return [view.new_ones(()) for view in views]
        if kind not in NOISE_SCALES:
            raise SteppeError(f"unknown noise scale {kind!r}; valid: {', '.join(NOISE_SCALES)}")
        # One fused call for all whole-tensor norms; filter norms differ in shape and are taken one by one.
        whole = [view for view in views if kind == "tensor" or view.dim() < 2]
        norms = iter(torch._foreach_add(torch._foreach_norm(whole), _TINY) if whole else ())
        return [
            next(norms)
            if kind == "tensor" or view.dim() < 2
            else torch.linalg.vector_norm(view, dim=tuple(range(1, view.dim())), keepdim=True)
            for view in views
        ]

    def scale_noise_(self, noise: Tensor, kind: str) -> Tensor:
        """Multiply standard normals (P,) in place by the `scales` of the weights at the last `save`.

        The scales are computed once per save, not per draw.
        """
        if kind not in self._noise_scales:
            self._noise_scales[kind] = self.scales(kind, self._saved())
        if kind != "absolute":
            for view, scale in zip(self.views(noise), self._noise_scales[kind], strict=True):
                view.mul_(scale)
        return noise


def memory_strides(p: Tensor) -> tuple[int, ...]:
    """Return the strides of a parameter in a flat buffer: its own if channels_last, else row-major.

    >>> memory_strides(torch.empty(2, 3, 4))
    (12, 4, 1)
    """
    for layout, dim in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if p.dim() == dim and p.is_contiguous(memory_format=layout):
            return p.stride()
    strides, step = [], 1
    for size in reversed(p.shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
