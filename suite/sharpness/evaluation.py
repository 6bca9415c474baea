"""What every measure needs: losses of examples at given weights, full precision, groups, their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from suite.params import FlatParams
from suite.ranks import slice_bounds
from suite.sharpness.point import Point, SubsetLoss


@contextmanager
def exact(point: Point) -> Iterator[None]:
    """Compute without autocast and tf32 inside the block; raise ValueError on a model in training mode."""
    if any(module.training for module in point.model.modules()):
        raise ValueError("measures are taken in eval mode: call model.eval() first")
    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        with torch.autocast(point.inputs.device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(matmul)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that measures are about, by name: the parameters that require a gradient."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def flat_copy(model: nn.Module) -> FlatParams:
    """Copy the trainable weights into a flat buffer, which may be perturbed without touching the model."""
    weights = FlatParams(nn.Parameter(p.detach().clone()) for p in trainable(model).values())
    weights.save()
    return weights


def groups(point: Point, size: int) -> list[Tensor]:
    """Cut the examples into consecutive random groups of at most `size`, sizes differing by at most one.

    The order is a fixed permutation, the same for every run, because a subset may come sorted by class
    and errors over examples need groups that are random samples.
    """
    n = len(point.targets)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(point.targets.device)
    parts = math.ceil(n / size)
    return [order[slice(*slice_bounds(n, part, parts))] for part in range(parts)]


@torch.no_grad()
def losses_at(point: Point, weights: FlatParams, rows: Tensor) -> Tensor:
    """Losses (len(rows),) in float64 of the examples `rows` at the weights `weights.theta`."""
    values: dict[str, Tensor] = dict(zip(trainable(point.model), weights.params, strict=True))
    out = [
        point.loss(functional_call(point.model, values, (point.inputs[part],)), point.targets[part])
        for part in torch.split(rows, point.batch_size)
    ]
    return torch.cat(out).double()


@torch.no_grad()
def mean_loss(point: Point) -> SubsetLoss:
    """Mean loss and accuracy over the whole subset at the model's own weights."""
    n = len(point.targets)
    loss = correct = 0.0
    for low in range(0, n, point.batch_size):
        targets = point.targets[low : low + point.batch_size]
        outputs = point.model(point.inputs[low : low + point.batch_size])
        loss += float(point.loss(outputs, targets).double().sum())
        correct += float((outputs.argmax(1) == targets).sum())
    return SubsetLoss(loss / n, correct / n, n)


def pooled(values: Tensor, sizes: Sequence[int]) -> tuple[float, float | None, float | None]:
    """Mean over groups of examples, each with K probes of its own, and its two standard errors.

    With x_gk the value of group g (n_g of n examples) under its k-th probe, w_g = n_g / n, x_g its mean
    over k and s_g its standard deviation over k:

        mean x = sum_g w_g x_g,   se_probes^2 = sum_g w_g^2 s_g^2 / K,
        se_groups^2 = G / (G - 1) * sum_g w_g^2 (x_g - x)^2.

    The second is the error for the distribution that the examples come from; as every group has its own
    probes it contains the first. Shape of `values`: (G, K). None for K = 1 or G = 1.
    """
    values = values.double().cpu()
    n_groups, n_probes = values.shape
    weights = torch.tensor(sizes, dtype=torch.float64)
    weights /= weights.sum()
    means = values.mean(1)
    mean = (weights * means).sum()
    se_probes = se_groups = None
    if n_probes > 1:
        se_probes = float((weights.square() * values.var(1) / n_probes).sum().sqrt())
    if n_groups > 1:
        spread = (weights * (means - mean)).square().sum() * n_groups / (n_groups - 1)
        se_groups = float(spread.sqrt())
    return float(mean), se_probes, se_groups
