"""Intervals and paired tests (protocol rules 20 to 24). Loads no torch.

Optimizers are paired by seed: every test is of the differences d_s = a_s - b_s of two optimizers at the same
seed s, so that an effect of the seed on both cancels. numpy and scipy are imported on first use.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """Mean of n values and its t interval; the bounds are None for n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None else self.high - self.mean


def mean_interval(values: Sequence[float], level: float = 1 - ALPHA) -> Interval:
    """Mean and t interval: mean +- t_{n-1, (1 + level) / 2} s / sqrt(n), s with n - 1 in its denominator.

    Raises:
        ValueError: no values.

    """
    n = len(values)
    if not n:
        raise ValueError("the mean of no values")
    mean = statistics.fmean(values)
    if n == 1:
        return Interval(mean, None, None, 1)
    half = _t_quantile((1 + level) / 2, n - 1) * stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def stdev(values: Sequence[float]) -> float:
    """Sample standard deviation of two or more floats, within 1e-15 of `statistics.stdev`, ten times as fast.

    Exactly 0 if all values are equal.
    """
    offsets = [value - values[0] for value in values]
    mean = statistics.fmean(offsets)
    return math.hypot(*[offset - mean for offset in offsets]) / math.sqrt(len(values) - 1)


@dataclass(frozen=True)
class Differences:
    """The paired differences a - b of two optimizers: their mean, standard deviation and number."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, a: Mapping[int, float], b: Mapping[int, float]) -> Differences:
        """Pair by seed; ignore seeds that only one of them has. ValueError below two pairs."""
        seeds = sorted(a.keys() & b.keys())
        if len(seeds) < 2:
            raise ValueError("a paired comparison needs two common seeds")
        values = [a[seed] - b[seed] for seed in seeds]
        return cls(statistics.fmean(values), stdev(values), len(values))

    @property
    def se(self) -> float:
        """Standard error of the mean difference."""
        return self.sd / math.sqrt(self.n)

    def p_value(self) -> float:
        """Two-sided p of the paired t test, t = mean / se with n - 1 degrees of freedom.

        If all differences are equal, p is 1 for differences of 0 and 0 otherwise.
        """
        return min(1.0, 2 * _t_tail(abs(self.mean), self.se, self.n - 1))

    def p_equivalent(self, margin: float) -> float:
        """P of the two one-sided tests (TOST) of |difference| >= margin; small p shows equivalence."""
        return max(_t_tail(margin - self.mean, self.se, self.n - 1),
                   _t_tail(margin + self.mean, self.se, self.n - 1))  # fmt: skip

    def detectable(self, power: float = POWER, alpha: float = ALPHA) -> float:
        """Smallest true difference that a two-sided paired t test with this n and sd detects at this power.

        Solves P(|T| > t_{n-1, 1 - alpha/2}) = power for the noncentrality delta = difference / se of T.
        """
        return 0.0 if self.sd == 0 else _noncentrality(self.n - 1, power, alpha) * self.se


@cache
def _noncentrality(degrees: int, power: float, alpha: float) -> float:
    """Solve P(|T| > t_{degrees, 1 - alpha/2}) = power for the noncentrality of T."""
    from scipy.optimize import brentq

    critical = _t_quantile(1 - alpha / 2, degrees)
    high = critical
    while power_of_t(high, critical, degrees) < power:
        high *= 2
    return float(brentq(lambda d: power_of_t(d, critical, degrees) - power, 0.0, high, xtol=1e-9))


def power_of_t(delta: float, critical: float, degrees: int) -> float:
    """P(|T| > critical) of the noncentral t with noncentrality delta.

    T = (Z + delta) / X with X^2 = chi^2_degrees / degrees, so the probability is the mean over X of
    Phi(delta - critical X) + Phi(-delta - critical X). (scipy's noncentral t gives NaN in far tails.)
    """
    from scipy.integrate import quad
    from scipy.special import chdtri, ndtr

    half = degrees / 2
    log_scale = math.log(2) + half * math.log(half) - math.lgamma(half)

    def integrand(x: float) -> float:
        density = math.exp(log_scale + (degrees - 1) * math.log(x) - half * x * x) if x else 0.0
        return float(ndtr(delta - critical * x) + ndtr(-delta - critical * x)) * density

    low, high = (math.sqrt(chdtri(degrees, p) / degrees) for p in (1 - 1e-12, 1e-14))
    return float(quad(integrand, low, high, limit=200, epsabs=1e-10)[0])


def holm(p_values: Mapping[str, float], family: int | None = None) -> dict[str, float]:
    """Adjust p values by Holm's step-down: the i-th smallest of m times m - i + 1.

    `family` is m if these p values are only part of a family; the others then count as larger, which is
    conservative.
    """
    adjusted, worst = {}, 0.0
    m = len(p_values) if family is None else family
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: (item[1], item[0]))):
        worst = max(worst, min(1.0, (m - rank) * p))
        adjusted[name] = worst
    return adjusted


def pairing_correlation(values: Mapping[str, Mapping[int, float]]) -> float | None:
    """Mean over pairs of optimizers of the correlation of their scores over common seeds (rule 21).

    Pairing by seed divides the variance of a difference by 1 / (1 - r). None if no pair has three common
    seeds and scores that vary.
    """
    import numpy as np

    varied = [some for _, some in sorted(values.items()) if len(set(some.values())) > 1]
    column = {seed: at for at, seed in enumerate(sorted({seed for some in varied for seed in some}))}
    scores, known = np.zeros((2, len(varied), len(column)))
    for row, some in enumerate(varied):
        at = [column[seed] for seed in some]
        known[row, at] = 1.0
        scores[row, at] = np.fromiter(some.values(), float) - statistics.fmean(some.values())
    n, sums, squares = (some @ known.T for some in (known, scores, scores**2))  # over common seeds
    spread = n * squares - sums**2
    shared = n * (scores @ scores.T) - sums * sums.T
    safe = spread > 1e-9 * n * squares.diagonal()[:, None]
    pairs = np.triu(n >= 3, 1)
    sure = pairs & safe & safe.T
    found: list[float] = (shared[sure] / np.sqrt((spread * spread.T)[sure])).tolist()
    for i, j in np.argwhere(pairs & ~sure):  # (almost) constant over the common seeds
        found += _correlation(varied[i], varied[j])
    return statistics.fmean(found) if found else None


def _correlation(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """Correlation over common seeds; an empty list if the scores of one are constant."""
    seeds = sorted(a.keys() & b.keys())
    x, y = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    return [statistics.correlation(x, y)] if len(set(x)) > 1 and len(set(y)) > 1 else []


def _t_quantile(probability: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def _t_tail(value: float, se: float, degrees: int) -> float:
    """P(T > value / se) of Student's t, and its limit for se = 0."""
    from scipy.special import stdtr

    if se == 0:
        return 0.5 if value == 0 else float(value < 0)
    return float(stdtr(degrees, -value / se))
