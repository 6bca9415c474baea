"""Largest eigenvalue of the Hessian of the training loss, by Lanczos with full re-orthogonalisation.

After m products T = Q' H Q is tridiagonal; its top eigenpair (theta_1, s) gives the Ritz pair
(theta_1, u = Q s) with residual r = ||H u - theta_1 u|| = beta_m |s_m|. An eigenvalue lies within r of
theta_1, and theta_1 never exceeds the largest eigenvalue. Iteration stops at r <= RTOL |theta_1|, but not
before LEAST products: while the top eigenvector has a small component in the basis, the eigenvalue within r
may be another one. The error of theta_1 is about r^2 / gap, much smaller if the largest eigenvalue is well
separated.

The start vector comes from a few iterations on the first group of examples, whose top eigenvectors are close.

`se_probes`: the residual r, a bound on the distance to the nearest eigenvalue and not a standard error.
`se_examples`: standard error of u' H_g u over groups g of examples at fixed u, to first order the error with
respect to the distribution of the examples; it omits the upward bias of a maximum on few examples (protocol
rule 26: the name carries n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.batch import Batch
from suite.records.schema import Estimate
from suite.seeds import NormalStream
from suite.sharpness.evaluation import groups, pooled
from suite.sharpness.hvp import Hessian
from suite.sharpness.point import Point

MEASURES = {"lambda_max": "largest eigenvalue of the Hessian of the training loss (Lanczos)"}
VERSION = 2
"""2: minimum number of iterations; version 1 could stop at an eigenvalue next to the largest."""

BATCH = 125
"""Examples in the graph of one product, and in a group of `se_examples`."""

RTOL = 0.05
"""Residual at which iteration stops, relative to the eigenvalue."""

LEAST = 18
"""Minimum number of iterations on all examples. Over 288 states of a 10-16-3 network at the edge of stability
(8 seeds, 3 learning rates, 12 steps), with close top eigenvalues and 60 examples in one group, the largest
error was 7.7 % with 8, 4.2 % with 12 and 0.05 % with 18."""

WARM_UP = 10
ITERATIONS = 30
"""Maximum number of iterations: WARM_UP on the first group, ITERATIONS on all examples."""

STREAM = 1
"""First counter of this measure's draws in stream `measure`."""


@dataclass(frozen=True)
class Ritz:
    """Approximate top eigenpair after `iterations` products; `bound` is the norm of its residual."""

    value: float
    vector: Tensor
    """Unit vector u (P,)."""
    bound: float
    iterations: int
    by_group: Tensor
    """u' H_g u for every group of examples, (G,) in float64."""


def estimate(point: Point, rtol: float = RTOL) -> dict[str, Estimate]:
    """Estimate lambda_max to a relative residual of `rtol`, or after at most ITERATIONS iterations."""
    hessian = Hessian(point)
    parts = groups(point, point.group(BATCH))
    start = NormalStream(point.seed, "measure").fill_(hessian.empty(), STREAM)
    if len(parts) > 1:
        start = lanczos(hessian, parts[:1], start, rtol, WARM_UP).vector
    top = lanczos(hessian, parts, start, rtol, ITERATIONS, LEAST)
    _, _, se_examples = pooled(top.by_group[:, None], [part.units for part in parts])
    return {
        "lambda_max": Estimate(
            top.value, top.bound, se_examples, n=len(point.batch), probes=top.iterations, version=VERSION,
            estimator=f"lanczos: {top.iterations} iterations (at least {LEAST}), residual",
        )
    }  # fmt: skip


def lanczos(
    hessian: Hessian, parts: Sequence[Batch], start: Tensor, rtol: float, iterations: int, least: int = 1
) -> Ritz:
    """Return the top Ritz pair of the Hessian of the mean loss over all `parts` from the start vector (P,).

    >>> from types import SimpleNamespace
    >>> H = torch.diag(torch.tensor([1.0, 2.0, 5.0]))
    >>> hessian = SimpleNamespace(size=3, empty=lambda *rows: torch.empty(*rows, 3),
    ...     products=lambda part, vectors: [H @ v for v in vectors])
    >>> top = lanczos(hessian, [SimpleNamespace(units=1)], torch.ones(3), rtol=1e-6, iterations=3)
    >>> round(top.value, 4), top.iterations
    (5.0, 3)
    """
    most = min(iterations, hessian.size)
    basis = hessian.empty(most)
    sizes = np.array([part.units for part in parts])
    weights = sizes / sizes.sum()
    # Q' H_g Q by group: their weighted mean is T, and they give u' H_g u without further products.
    blocks = np.zeros((len(parts), most, most))
    vector = start / torch.linalg.vector_norm(start)
    for j in range(most):
        basis[j] = vector
        product = torch.zeros_like(vector)
        for g, part in enumerate(parts):
            (of_part,) = hessian.products(part, [vector])
            column = (basis[: j + 1] @ of_part).double().cpu().numpy()
            blocks[g, : j + 1, j] = blocks[g, j, : j + 1] = column
            product.add_(of_part, alpha=float(weights[g]))
        if not np.isfinite(blocks).all():
            return Ritz(math.nan, vector, math.nan, j + 1, torch.full((len(parts),), math.nan))
        for _ in range(2):  # two passes of Gram-Schmidt keep the basis orthogonal up to rounding
            product -= basis[: j + 1].T @ (basis[: j + 1] @ product)
        beta = float(torch.linalg.vector_norm(product))
        values, vectors = np.linalg.eigh(np.tensordot(weights, blocks[:, : j + 1, : j + 1], 1))
        rounding = torch.finfo(basis.dtype).eps * abs(values[-1])  # smaller residuals are not resolved
        residual = max(beta * abs(vectors[-1, -1]), rounding)
        converged = j + 1 >= least and residual <= rtol * abs(values[-1])
        if converged or beta == 0.0 or j + 1 == most:
            break
        vector = product / beta
    top = vectors[:, -1]
    return Ritz(
        value=float(values[-1]),
        vector=torch.from_numpy(top).to(basis) @ basis[: j + 1],
        bound=float(residual),
        iterations=j + 1,
        by_group=torch.from_numpy(np.einsum("i,gij,j->g", top, blocks[:, : j + 1, : j + 1], top)),
    )
