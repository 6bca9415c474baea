"""Statistics against scipy, hand-computed values and simulation."""

import itertools
import math
import random
import statistics
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.stats import nct

from suite.report import stats
from suite.report.stats import (
    Differences,
    Interval,
    holm,
    mean_interval,
    pairing_correlation,
    power_of_t,
    stdev,
)
from suite.report.verdicts import classify

A = [0.71, 0.69, 0.73, 0.70, 0.72, 0.68, 0.74, 0.71, 0.70, 0.69]
B = [0.70, 0.69, 0.70, 0.71, 0.69, 0.67, 0.72, 0.70, 0.68, 0.70]


def by_seed(values):
    return dict(enumerate(values))


def test_interval_by_hand():
    found = mean_interval([1.0, 2.0, 3.0])
    # s = 1, t_{2, 0.975} = 4.302653 from the tables
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert found.low == pytest.approx(2.0 - found.half)


def test_interval_is_that_of_scipy():
    low, high = scipy_stats.ttest_1samp(A, 0).confidence_interval(0.9)
    found = mean_interval(A, level=0.9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_interval_of_one_value_has_no_width():
    assert mean_interval([0.5]) == Interval(0.5, None, None, 1)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_paired_t_is_that_of_scipy():
    found = Differences.of(by_seed(A), by_seed(B))
    assert found.p_value() == pytest.approx(scipy_stats.ttest_rel(A, B).pvalue, rel=1e-12)


def test_pairs_by_seed_and_not_by_order():
    a, b = {3: 1.0, 1: 2.0, 7: 9.0}, {1: 1.5, 3: 0.0, 5: 9.0}
    assert Differences.of(a, b) == Differences(0.75, pytest.approx(0.5 / 2**0.5), 2)
    with pytest.raises(ValueError, match="two common seeds"):
        Differences.of({1: 0.0, 2: 0.0}, {2: 0.0, 3: 0.0})


def test_differences_without_spread():
    assert Differences(0.0, 0.0, 10).p_value() == 1.0
    assert Differences(0.01, 0.0, 10).p_value() == 0.0
    assert Differences(0.01, 0.0, 10).p_equivalent(0.02) == 0.0
    assert Differences(0.03, 0.0, 10).p_equivalent(0.02) == 1.0
    assert Differences(0.03, 0.0, 10).detectable() == 0.0


@pytest.mark.parametrize("margin", [0.005, 0.02, 0.05])
def test_tost_is_two_one_sided_tests_of_scipy(margin):
    d = np.array(A) - np.array(B)
    upper = scipy_stats.ttest_1samp(d, margin, alternative="less").pvalue
    lower = scipy_stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    found = Differences.of(by_seed(A), by_seed(B)).p_equivalent(margin)
    assert found == pytest.approx(max(upper, lower), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
def test_detectable_difference_has_the_power_it_says(n):
    found = Differences(0.0, 0.02, n).detectable(power=0.8)
    critical = scipy_stats.t.ppf(0.975, n - 1)
    rng = np.random.default_rng(5)
    d = found + 0.02 * rng.standard_normal((40_000, n))
    t = d.mean(1) / (d.std(1, ddof=1) / n**0.5)
    # four standard errors of a rate of 80 % in 40,000 trials
    assert (abs(t) > critical).mean() == pytest.approx(0.8, abs=0.008)


@pytest.mark.parametrize(("delta", "degrees"), [(0.0, 4), (1.5, 9), (3.0, 9), (2.0, 60)])
def test_power_is_the_noncentral_t_of_scipy(delta, degrees):
    expected = nct.sf(2.5, degrees, delta) + nct.cdf(-2.5, degrees, delta)
    assert power_of_t(delta, 2.5, degrees) == pytest.approx(expected, abs=1e-9)


def test_detectable_difference_by_the_book():
    # Cohen 1988, paired t, n = 34 pairs: d = 0.5 has a power of 0.80 (two-sided, alpha 0.05)
    assert Differences(0.0, 1.0, 34).detectable() == pytest.approx(0.5, abs=0.01)


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}
    assert holm({}) == {}


def sample(rng, mean, n=10, sd=0.01, shared=None):
    return by_seed(mean + (0 if shared is None else shared) + sd * rng.standard_normal(n))


def test_words():
    rng = np.random.default_rng(0)
    values = {
        "best": sample(rng, 0.70, sd=0.001),
        "close": sample(rng, 0.6995, sd=0.001),
        "wide": sample(rng, 0.69, sd=0.05),
        "worse": sample(rng, 0.65, sd=0.001),
        "broken": sample(rng, 0.99),
        "gone": {},
    }
    found = classify(values, {"broken": 1}, margin=0.005, minimum=10)
    assert {name: verdict.word for name, verdict in found.items()} == {
        "best": "best", "close": "tie", "wide": "unresolved", "worse": "worse", "broken": "failed",
        "gone": "failed",
    }  # fmt: skip
    assert {name for name, verdict in found.items() if verdict.best_set} == {"best", "close", "wide"}
    wide = found["wide"]
    # four sound ones make six pairs, which Holm's first step pays for
    assert wide.detectable == Differences.of(values["wide"], values["best"]).detectable(alpha=0.05 / 6)
    assert wide.detectable > 0.03  # sd of the differences about 0.05: 0.05 * 3.0 / sqrt(10) = 0.05
    assert found["worse"].difference == pytest.approx(-0.05, abs=0.002)


def test_where_nobody_is_better_few_are_called_worse():
    rng = np.random.default_rng(3)
    trials = 400
    wrong = 0
    for _ in range(trials):
        values = {name: sample(rng, 0.7, sd=0.01) for name in "abcdef"}
        found = classify(values, {}, margin=1e-9, minimum=10)
        wrong += any(verdict.word == "worse" for verdict in found.values())
    # The level is 5 %; at most 3 standard errors of 400 trials (1.1 points each) above it. Paying for the
    # five comparisons with the best only gives about 10 %.
    assert wrong / trials <= 0.05 + 3 * 0.011


def test_worse_and_within_the_margin_is_worse():
    rng = np.random.default_rng(0)
    values = {"a": sample(rng, 0.7, sd=1e-4), "b": sample(rng, 0.699, sd=1e-4)}
    found = classify(values, {}, margin=0.005, minimum=10)["b"]
    assert (found.word, found.best_set, found.equivalent) == ("worse", False, True)


def test_lack_of_data_is_never_a_tie():
    same = by_seed([0.7, 0.7, 0.7])
    found = classify({"a": same, "b": dict(same)}, {}, margin=0.5, minimum=10)
    assert {verdict.word for verdict in found.values()} == {"undecided"}
    # ten seeds each, but only five in common
    values = {"a": dict.fromkeys(range(10), 0.7), "b": dict.fromkeys(range(5, 15), 0.7)}
    found = classify(values, {}, margin=0.5, minimum=10)
    assert {verdict.word for verdict in found.values()} == {"undecided"}


def test_seeds_that_only_one_has_make_nobody_the_best():
    """A has ten easy seeds more, and is below B in every pair."""
    noise = [0.001 * math.sin(9.0 * seed) for seed in range(20)]
    a = {seed: 0.60 + 0.1 * (seed > 9) + noise[seed] for seed in range(20)}
    b = {seed: a[seed] + 0.002 + 0.0005 * math.cos(7.0 * seed) for seed in range(10)}
    assert statistics.fmean(a.values()) > statistics.fmean(b.values())
    found = classify({"a": a, "b": b}, {}, margin=0.0001, minimum=10)
    assert (found["b"].word, found["a"].word) == ("best", "worse")


def test_where_common_seeds_are_too_few_the_test_has_the_last_word():
    noise = [0.001 * math.sin(9.0 * seed) for seed in range(30)]
    a = {seed: 0.60 + 0.1 * (seed > 9) + noise[seed] for seed in range(20)}
    b = {seed: a[seed] + 0.002 + 0.0005 * math.cos(7.0 * seed) for seed in range(10)}
    elsewhere = {seed: 0.5 + noise[seed] for seed in range(15, 30)}
    found = classify({"a": a, "b": b, "c": elsewhere}, {}, margin=0.0001, minimum=10)
    assert (found["b"].word, found["a"].word, found["c"].word) == ("best", "worse", "undecided")


def test_the_correction_pays_for_all_among_whom_the_best_was_chosen():
    """One has eighty seeds, eight have ten of them each; nobody is better."""
    generator = np.random.default_rng(0)
    false = 0
    for _ in range(400):
        values = {"hub": dict(enumerate(generator.normal(size=80)))}
        values |= {
            f"row {i}": {10 * i + j: x for j, x in enumerate(generator.normal(size=10))} for i in range(8)
        }
        found = classify(values, {}, margin=0.01, minimum=10)
        false += any(verdict.word == "worse" for verdict in found.values())
    # at a level of 5 % more than 33 of 400 have a chance of 0.3 %; paying for comparable rows only gave 45
    assert false <= 33


def test_a_newcomer_with_few_seeds_undecides_nobody_else():
    values = {"a": by_seed(A), "b": by_seed([x - 0.1 for x in A]), "new": {0: 0.99}}
    found = classify(values, {}, margin=0.005, minimum=10)
    assert {name: v.word for name, v in found.items()} == {"a": "best", "b": "worse", "new": "undecided"}
    found = classify({"a": by_seed(A), "new": {0: 0.99}}, {}, margin=0.005, minimum=10)
    assert {verdict.word for verdict in found.values()} == {"undecided"}


def test_one_optimizer_is_compared_with_none():
    assert classify({"a": by_seed(A)}, {}, margin=0.005, minimum=5)["a"].word == "alone"


def test_all_failed():
    assert classify({"a": {}}, {"a": 3}, margin=0.01, minimum=5)["a"].word == "failed"


def test_pairing_correlation():
    assert pairing_correlation({"a": by_seed([1, 2, 3, 4]), "b": by_seed([2, 4, 6, 8])}) == pytest.approx(1.0)
    expected = np.corrcoef(A, B)[0, 1]
    assert pairing_correlation({"a": by_seed(A), "b": by_seed(B)}) == pytest.approx(expected, rel=1e-9)
    assert pairing_correlation({"a": by_seed(A), "b": by_seed([0.7] * 10)}) is None
    assert pairing_correlation({"a": by_seed(A)}) is None


def slow_pairing_correlation(values):
    found = []
    for a, b in itertools.combinations(sorted(values), 2):
        seeds = sorted(values[a].keys() & values[b].keys())
        x, y = [values[a][s] for s in seeds], [values[b][s] for s in seeds]
        if len(seeds) >= 3 and len(set(x)) > 1 and len(set(y)) > 1:
            found.append(statistics.correlation(x, y))
    return statistics.fmean(found) if found else None


@pytest.mark.parametrize("seed", range(40))
def test_pairing_correlation_is_the_mean_over_pairs_whatever_seeds_they_have(seed):
    draw = random.Random(seed)
    values = {
        f"o{i}": {
            s: draw.choice([0.5, 0.6]) if draw.random() < 0.4 else draw.random()
            for s in draw.sample(range(12), draw.randint(0, 12))
        }
        for i in range(draw.randint(1, 8))
    }
    expected = slow_pairing_correlation(values)
    assert pairing_correlation(values) == (
        expected if expected is None else pytest.approx(expected, abs=1e-12)
    )


def test_rows_that_vary_elsewhere_only_have_no_correlation():
    a = {0: 0.1, 1: 0.1, 2: 0.1, 3: 0.9}  # constant over the seeds that b has
    assert pairing_correlation({"a": a, "b": {0: 0.1, 1: 0.2, 2: 0.4}}) is None


@pytest.mark.parametrize(
    "scale", [1.0, 1e-3, 1e300, 1e-300, 5e-324, 2.0**-1074 * 3, (1e-200, 1e200), (1e-308, 1.0)]
)
def test_standard_deviation_is_that_of_the_library(scale):
    draw = random.Random(repr(scale))
    low, high = scale if isinstance(scale, tuple) else (scale, scale)
    for n in (2, 3, 10, 100):
        for _ in range(20):
            values = [draw.choice((low, high)) * draw.gauss(0.0, 1.0) for _ in range(n)]
            assert stdev(values) == pytest.approx(statistics.stdev(values), rel=1e-15, abs=1e-322)
    few = [draw.randrange(3) / 10 for _ in range(10)]
    for values in (few, A, [1, 2, 4]):
        assert stdev(values) == pytest.approx(statistics.stdev(values), rel=1e-15)
    for values in ([0.0] * 5, [0.1] * 7, [0.0, -0.0]):
        assert stdev(values) == 0


def test_detectable_differences_are_solved_once_for_all_of_a_table(monkeypatch):
    stats._noncentrality.cache_clear()
    solved = []
    monkeypatch.setattr(stats, "power_of_t", lambda *given: solved.append(given) or power_of_t(*given))
    once = Differences(0.0, 0.01, 10).detectable()
    n = len(solved)
    assert Differences(0.1, 0.02, 10).detectable() == 2 * once
    assert len(solved) == n
    assert Differences(0.1, 0.02, 11).detectable() < 2 * once


TRIALS = 1500
"""Trials of each simulation: the standard error of a rate of 5 % is then 0.56 %."""


def test_intervals_cover_in_simulation():
    rng = np.random.default_rng(1)
    hits = 0
    for row in rng.normal(0.7, 0.01, (TRIALS, 5)):
        found = mean_interval(row.tolist())
        hits += found.low <= 0.7 <= found.high
    assert hits / TRIALS == pytest.approx(0.95, abs=0.02)  # three and a half standard errors


def test_paired_t_keeps_its_level_under_correlation_between_seeds():
    rng = np.random.default_rng(2)
    rejected = 0
    for _ in range(TRIALS):
        shared = rng.normal(0, 0.02, 10)
        d = Differences.of(sample(rng, 0.7, shared=shared), sample(rng, 0.7, shared=shared))
        rejected += d.p_value() <= 0.05
    assert rejected / TRIALS == pytest.approx(0.05, abs=0.02)


def test_equivalence_keeps_its_level_at_the_margin():
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(TRIALS):
        d = rng.normal(0.01, 0.005, 10)  # a true difference that is exactly the margin
        found += Differences(d.mean(), d.std(ddof=1), 10).p_equivalent(0.01) <= 0.05
    assert found / TRIALS == pytest.approx(0.05, abs=0.02)


def test_importing_loads_neither_torch_nor_scipy():
    code = (
        "import sys, suite.report.stats; print([m for m in ('torch', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
