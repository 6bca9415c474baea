"""The LPF measure: the training loss smoothed by Gaussian noise in weight space (Bisla et al. 2022).

    lpf            = E_n L(theta + n),             n = sigma s(theta) z,  z ~ N(0, I)
    lpf_difference = E_n L(theta + n) - L(theta)

with s the norm of each weight's filter (`FlatParams.scales`, kind `filter`) and sigma = 0.01. The released
code balances the network and adds isotropic noise, which is equivalent for filters without a bias. For
parameters of one dimension s is the norm of the whole vector here, as in the training noise of the released
LPF-SGD. Its released measure uses |gamma_c| + |beta_c| for each BatchNorm channel, a factor sqrt(C) less, so
that published values of networks with BatchNorm are lower.

Estimated by Monte Carlo over antithetic pairs (L(theta + n) + L(theta - n)) / 2, in which the first order of
the noise cancels, with fresh noise for every batch of examples. The same seed gives every optimizer the same
z, and L(theta) is taken on the same examples.

`se_probes`: from the spread of the pairs within each batch; both estimates share it, because L(theta) has no
noise. `se_examples`: standard deviation over examples of the smoothed loss, or of its difference to the clean
loss of the same example, over sqrt(n).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from suite.batch import Batch
from suite.flat_params import FlatParams
from suite.records.schema import Estimate
from suite.seeds import NormalStream
from suite.sharpness.evaluation import flat_copy, groups, losses_at, pooled, weighted_mean, weights_of
from suite.sharpness.point import Point

MEASURES = {
    "lpf": "training loss smoothed by filter-scaled Gaussian noise, sigma = 0.01",
    "lpf_difference": "the smoothed training loss minus the training loss",
}
VERSION = 1

SIGMA = 0.01
SCALE = "filter"

BATCH = 50
"""Examples that share their noise; with fewer, drawing it would take longer than the forward passes."""

PAIRS = 4
"""Antithetic pairs per batch."""

STREAM = 3
"""First counter of this measure's draws in stream `measure`."""


def estimate(point: Point, batch: int = BATCH, pairs: int = PAIRS) -> dict[str, Estimate]:
    """Estimate both measures with `pairs` antithetic pairs per `batch` examples."""
    weights, noise = flat_copy(point.model), NormalStream(point.seed, "measure")
    z = torch.empty_like(weights.theta)
    size = point.group(batch)
    parts = groups(point, size)
    smoothed, clean, means = [], [], []
    for index, part in enumerate(parts):
        losses = torch.stack(
            [
                antithetic_losses(point, weights, noise.fill_(z, STREAM, index, pair), part)
                for pair in range(pairs)
            ]
        )
        weights.restore()
        clean.append(losses_at(point, weights, part))
        smoothed.append(losses.mean(0))
        means.append(weighted_mean(losses, weights_of(point, part)))
    value, se_probes, _ = pooled(torch.stack(means), [part.units for part in parts])
    absolute, base = torch.cat(smoothed), torch.cat(clean)
    of_parts = [weights_of(point, part) for part in parts]
    weight = torch.cat(known) if (known := [w for w in of_parts if w is not None]) else None
    probes = 2 * pairs * len(parts)
    estimator = (
        f"monte carlo: sigma {SIGMA:g}, {SCALE} scale, {pairs} antithetic pairs per "
        f"{batch if point.separable else size} examples"
    )
    difference = absolute - base
    rest = len(point.batch), probes, estimator, VERSION
    rise = float(weighted_mean(difference, weight))
    return {
        "lpf": Estimate(value, se_probes, _se(absolute, weight), *rest),
        "lpf_difference": Estimate(rise, se_probes, _se(difference, weight), *rest),
    }


def noisy_losses(point: Point, weights: FlatParams, z: Tensor, part: Batch, sigma: float = SIGMA) -> Tensor:
    """Return `losses_at` theta + sigma s z for standard normals z (P,); `weights` stays perturbed."""
    noise = weights.scale_noise_(z.clone(), SCALE)
    weights.restore()
    weights.theta.add_(noise, alpha=sigma)
    return losses_at(point, weights, part)


def antithetic_losses(point: Point, weights: FlatParams, z: Tensor, part: Batch) -> Tensor:
    """Return the mean of the losses at +z and -z."""
    return (noisy_losses(point, weights, z, part) + noisy_losses(point, weights, z, part, -SIGMA)) / 2


def _se(values: Tensor, weight: Tensor | None) -> float | None:
    """Return the standard error of the mean over n examples; with weights, of the ratio r = sum v / sum w.

    se^2 = n / (n - 1) sum_i (v_i - r w_i)^2 / (sum_i w_i)^2,       which is s^2 / n at w = 1
    """
    n = len(values)
    if n == 1:
        return None
    if weight is None:
        return float(values.std()) / math.sqrt(n)
    rest = values - weighted_mean(values, weight) * weight
    return math.sqrt(float(rest.square().sum()) * n / (n - 1)) / float(weight.sum())
