"""The LPF measure: the training loss smoothed by Gaussian noise in weight space (Bisla et al. 2022).

    lpf            = E_n L(theta + n),             n = sigma s(theta) z,  z ~ N(0, I)
    lpf_difference = E_n L(theta + n) - L(theta)

with s the norm of each weight's filter (`FlatParams.scales`, kind `filter`) and sigma = 0.01. The released
code balances the network and adds isotropic noise, which is this for filters without a bias. Parameters of
one dimension have the norm of the whole vector here, as in the training noise of the released LPF-SGD, where
its measure has |gamma_c| + |beta_c| for each BatchNorm channel: sqrt(C) less, so that published values of
networks with BatchNorm are lower.

Estimated by Monte Carlo over antithetic pairs (L(theta + n) + L(theta - n)) / 2, in which the first order of
the noise cancels, fresh for every batch of examples. The same seed gives every optimizer the same z, and
L(theta) is taken on the same examples.

`se_probes`: from the spread of the pairs within each batch; L(theta) has no such error, so both estimates
share it. `se_examples`: standard deviation over examples of the smoothed loss, or of its difference to the
clean loss of the same example, over sqrt(n).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from suite.params import FlatParams
from suite.seeds import NormalStream
from suite.sharpness.evaluation import flat_copy, groups, losses_at, pooled
from suite.sharpness.point import Estimate, Point

MEASURES = {
    "lpf": "training loss smoothed by filter-scaled Gaussian noise, sigma = 0.01",
    "lpf_difference": "the smoothed training loss minus the training loss",
}

SIGMA = 0.01
SCALE = "filter"

BATCH = 50
"""Examples that share their noise; fewer would spend more on drawing it than on the forward passes."""

PAIRS = 4
"""Antithetic pairs of a batch."""

STREAM = 3
"""First counter of this measure's draws in stream `measure`."""


def estimate(point: Point, batch: int = BATCH, pairs: int = PAIRS) -> dict[str, Estimate]:
    """Estimate both with `pairs` antithetic pairs for every `batch` examples."""
    weights, noise = flat_copy(point.model), NormalStream(point.seed, "measure")
    z = torch.empty_like(weights.theta)
    parts = groups(point, min(batch, point.batch_size))
    smoothed, clean, means = [], [], []
    for index, rows in enumerate(parts):
        losses = torch.stack(
            [
                antithetic_losses(point, weights, noise.fill_(z, STREAM, index, pair), rows)
                for pair in range(pairs)
            ]
        )
        weights.restore()
        clean.append(losses_at(point, weights, rows))
        smoothed.append(losses.mean(0))
        means.append(losses.mean(1))
    value, se_probes, _ = pooled(torch.stack(means), [len(rows) for rows in parts])
    absolute, base = torch.cat(smoothed), torch.cat(clean)
    n, probes = len(absolute), 2 * pairs * len(parts)
    estimator = f"monte carlo: sigma {SIGMA:g}, {SCALE} scale, {pairs} antithetic pairs per {batch} examples"
    difference = absolute - base
    return {
        "lpf": Estimate(value, se_probes, _se(absolute), n, probes, estimator),
        "lpf_difference": Estimate(
            float(difference.mean()), se_probes, _se(difference), n, probes, estimator
        ),
    }


def noisy_losses(point: Point, weights: FlatParams, z: Tensor, rows: Tensor, sigma: float = SIGMA) -> Tensor:
    """Losses (len(rows),) at theta + sigma s z for standard normals z (P,); `weights` is left perturbed."""
    noise = weights.scale_noise_(z.clone(), SCALE)
    weights.restore()
    weights.theta.add_(noise, alpha=sigma)
    return losses_at(point, weights, rows)


def antithetic_losses(point: Point, weights: FlatParams, z: Tensor, rows: Tensor) -> Tensor:
    """Mean of the losses (len(rows),) at +z and -z."""
    return (noisy_losses(point, weights, z, rows) + noisy_losses(point, weights, z, rows, -SIGMA)) / 2


def _se(values: Tensor) -> float | None:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
