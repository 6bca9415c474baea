"""Trace of the Hessian of the training loss: Hutchinson's estimator, fresh probes for every small group.

For z with independent entries +-1, E z' H z = tr H. The Hessian of the mean loss is the mean over groups g of
examples, H = sum_g (n_g / n) H_g, so that

    tr H ~ sum_g (n_g / n) (1/K) sum_k z_gk' H_g z_gk

is unbiased too. Fresh probes z_gk for every group cost as many products as K probes shared by all groups, but
give G K independent draws. Var z'Hz = 2 (||H||_F^2 - sum_i H_ii^2) is larger for a small group, but by much
less than the factor G that the draws gain.

`se_probes`: from the spread of the K probes within each group, for this subset. `se_examples`: from the
spread between the groups, for the distribution of the examples; it contains the error of the probes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from suite.records.schema import Estimate
from suite.seeds import NormalStream
from suite.sharpness.evaluation import groups, pooled
from suite.sharpness.hvp import Hessian
from suite.sharpness.point import Point

MEASURES = {"hessian_trace": "trace of the Hessian of the training loss (Hutchinson)"}
VERSION = 1

GROUP = 25
"""Examples that share their probes: the fewest that a convolution handles without loss of speed."""

PROBES = 2
"""Probes per group: the fewest that have a spread."""

STREAM = 2
"""First counter of this measure's draws in stream `measure`."""


def estimate(point: Point, group: int = GROUP, probes: int = PROBES) -> dict[str, Estimate]:
    """Estimate tr H with `probes` products per `group` examples."""
    hessian, noise = Hessian(point), NormalStream(point.seed, "measure")
    size = point.group(group)
    parts = groups(point, size)
    shown = group if point.separable else size

    def signs(index: int) -> Iterator[Tensor]:
        for k in range(probes):
            yield noise.fill_(hessian.empty(), STREAM, index, k).sign_()

    values = torch.stack(
        [
            torch.stack(
                [torch.dot(z, hz) for z, hz in zip(signs(i), hessian.products(part, signs(i)), strict=True)]
            )
            for i, part in enumerate(parts)
        ]
    )
    value, se_probes, se_examples = pooled(values, [part.units for part in parts])
    return {
        "hessian_trace": Estimate(
            value, se_probes, se_examples, n=len(point.batch), probes=values.numel(), version=VERSION,
            estimator=f"hutchinson: {probes} rademacher probes per {shown} examples",
        )
    }  # fmt: skip
