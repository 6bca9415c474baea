"""Forward passes that can be differentiated more than once, in any mix of reverse and forward mode.

torch's own kernels of some layers cannot: a reverse pass through a forward-mode derivative of its LayerNorm,
BatchNorm or InstanceNorm is silently wrong (by 0.1 to 0.4 of the Hessian product in torch 2.11 and 2.15); its
fused attention has no second derivative. Inside `smooth()` these layers are computed from plain operations:

    LayerNorm, BatchNorm and InstanceNorm on their input:   y = w (x - mean) / sqrt(var + eps) + b
    BatchNorm and InstanceNorm on running statistics:       y = s x + (b - s mean),   s = w / sqrt(var + eps)

The second is also several times cheaper to differentiate twice than the native layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def smooth() -> Iterator[None]:
    """Compute LayerNorm, BatchNorm, InstanceNorm and attention from plain operations inside the block."""
    with _PlainNorms(), sdpa_kernel(SDPBackend.MATH):
        yield


class _PlainNorms(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _PLAIN.get(func, func)(*args, **(kwargs or {}))


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
    shape = (1, -1, *(1 for _ in range(input.dim() - 2)))
    if training:
        if running_mean is not None:  # the layer updates its statistics: not a pure function of the input
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        dims = (0, *range(2, input.dim()))
        return _normalised(input, dims, eps, _shaped(weight, shape), _shaped(bias, shape))
    if running_mean is None or running_var is None:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    shift = -scale * running_mean
    shift = shift if bias is None else shift + bias
    return input * scale.view(shape) + shift.view(shape)


def _layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    dims = tuple(range(input.dim() - len(normalized_shape), input.dim()))
    return _normalised(input, dims, eps, weight, bias)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    if running_mean is not None:  # the layer updates its statistics, as above
        return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    shape = (1, -1, *(1 for _ in range(input.dim() - 2)))
    dims = tuple(range(2, input.dim()))
    return _normalised(input, dims, eps, _shaped(weight, shape), _shaped(bias, shape))


def _normalised(
    x: Tensor, dims: tuple[int, ...], eps: float, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    out = centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _shaped(one: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    return None if one is None else one.view(shape)


_PLAIN: dict[Callable[..., Any], Callable[..., Any]] = {
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
}
