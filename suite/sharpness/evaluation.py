"""Functions shared by all measures: losses at given weights, full precision, groups, standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.flat_params import FlatParams
from suite.problem import ModelAt
from suite.process_group import slice_bounds
from suite.sharpness.point import Point, SubsetLoss


@contextmanager
def exact(point: Point) -> Iterator[None]:
    """Disable autocast and tf32 inside the block; ValueError if the model is in training mode."""
    if any(module.training for module in point.model.modules()):
        raise ValueError("measures are taken in eval mode: call model.eval() first")
    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        with torch.autocast(point.problem.device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(matmul)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights to which measures refer, by name: the parameters that require a gradient."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def flat_copy(model: nn.Module) -> FlatParams:
    """Copy the trainable weights into a flat buffer, which can be perturbed without changing the model."""
    weights = FlatParams(nn.Parameter(p.detach().clone()) for p in trainable(model).values())
    weights.save()
    return weights


def groups(point: Point, size: int) -> list[Batch]:
    """Split the examples into random groups of at most `size`, whose sizes differ by at most one.

    The order is a fixed permutation, the same for every run: a subset may be sorted by class, but errors over
    examples require groups that are random samples. The groups of a joint loss are whole batches.
    """
    n = len(point.batch)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(point.problem.device)
    if not point.separable:
        return [point.batch[rows] for rows in torch.split(order, size) if len(rows) == min(size, n)]
    parts = math.ceil(n / size)
    return [point.batch[order[slice(*slice_bounds(n, part, parts))]] for part in range(parts)]


def mean_loss(point: Point, outputs: Any, batch: Batch) -> Tensor:
    """Return the mean loss of a group, in a form that can be differentiated twice."""
    if not point.separable:
        return point.problem.loss(outputs, batch)
    losses = point.problem.losses(outputs, batch)
    return losses.mean() if batch.weight is None else losses.sum() / batch.units


@torch.no_grad()
def losses_at(point: Point, weights: FlatParams, batch: Batch) -> Tensor:
    """Return float64 losses at `weights.theta`: one per example, summed over its units; one if joint."""
    model: Any = ModelAt(point.model, dict(zip(trainable(point.model), weights.params, strict=True)))
    if not point.separable:
        return point.problem.loss(point.problem.forward(model, batch), batch).double()[None]
    out = [
        point.problem.losses(point.problem.forward(model, part), part)
        for part in _passes(batch, point.batch_size)
    ]
    return torch.cat(out).double()


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean over the last dimension; with `weight` the ratio sum(values) / sum(weight).

    >>> weighted_mean(torch.tensor([2.0, 7.0]), torch.tensor([1.0, 2.0]))
    tensor(3.)
    """
    return values.mean(-1) if weight is None else values.sum(-1) / weight.sum()


def weights_of(point: Point, batch: Batch) -> Tensor | None:
    """Return the units of each loss of `losses_at` in float64; None if each is one."""
    if batch.weight is None or not point.separable:
        return None
    return batch.weight.double().to(point.problem.device)


@torch.no_grad()
def subset_metrics(point: Point) -> SubsetLoss:
    """Return mean loss and mean scores over the whole subset at the model's own weights."""
    problem, n_units, loss = point.problem, 0, 0.0
    sums = dict.fromkeys(problem.score_names, 0.0)
    for batch in _passes(point.batch, point.batch_size):
        outputs = problem.forward(point.model, batch)
        if point.separable:
            loss += float(problem.losses(outputs, batch).double().sum())
        else:
            loss += float(problem.loss(outputs, batch).double()) * batch.units
        n_units += batch.units
        for name, score in problem.scores(outputs, batch).items():
            sums[name] += float(score.sum())
    means = {"loss": loss, **sums}
    found = problem.metrics({name: value / n_units for name, value in means.items()})
    declared = {"loss", *(metric.name for metric in problem.task.metrics)}
    return SubsetLoss({name: value for name, value in found.items() if name in declared}, len(point.batch))


def _passes(batch: Batch, size: int) -> Iterator[Batch]:
    for low in range(0, len(batch), size):
        yield batch.part(low, min(low + size, len(batch)))


def pooled(values: Tensor, sizes: Sequence[int]) -> tuple[float, float | None, float | None]:
    """Return the mean over groups of examples with K probes each, and its two standard errors.

    With x_gk the value of group g (n_g of n examples) under its k-th probe, w_g = n_g / n, x_g the mean of
    x_gk over k and s_g its standard deviation over k:

        mean x = sum_g w_g x_g,   se_probes^2 = sum_g w_g^2 s_g^2 / K,
        se_groups^2 = G / (G - 1) * sum_g w_g^2 (x_g - x)^2.

    The second is the error with respect to the distribution of the examples; it contains the first, because
    every group has its own probes. Shape of `values`: (G, K). An error is None for K = 1 or G = 1.

    >>> mean, se_probes, se_groups = pooled(torch.tensor([[1.0, 3.0], [5.0, 7.0]]), sizes=[1, 1])
    >>> mean, round(se_probes**2, 6), round(se_groups**2, 6)
    (4.0, 0.5, 4.0)
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
