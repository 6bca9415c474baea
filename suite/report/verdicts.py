"""Verdicts: the comparison of every optimizer of a table with the best one (protocol rules 20 to 24)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from suite.report.stats import ALPHA, Differences, holm

MINIMUM_SEEDS = {"smoke": 10, "small": 10, "full": 5}
"""By tier, the evaluation seeds below which results are descriptive only, without tests (rule 20)."""


class Word(StrEnum):
    """Result of the comparison of one optimizer with the best one, as a word."""

    BEST = "best"
    """The best mean."""
    TIE = "tie"
    """Equivalent to the best within the margin."""
    UNRESOLVED = "unresolved"
    """Neither a difference to the best nor equivalence was shown."""
    WORSE = "worse"
    """Significantly worse than the best."""
    FAILED = "failed"
    """A failed run keeps it out of the best set."""
    UNDECIDED = "undecided"
    """Too few seeds for any test."""
    ALONE = "alone"
    """No other optimizer to compare with."""


@dataclass(frozen=True)
class Verdict:
    """Result of the comparison of one optimizer with the best one; fields are None if it was not tested."""

    word: Word
    best_set: bool = False
    """Whether it is not significantly below the best and has no failed run."""
    p: float | None = None
    """Holm-adjusted p of the paired t test against the best."""
    difference: float | None = None
    """Mean paired difference to the best."""
    detectable: float | None = None
    """Minimum detectable difference at this n and the level of the first step of Holm's correction."""
    equivalent: bool = False


def classify(
    values: Mapping[str, Mapping[int, float]],
    failures: Mapping[str, int],
    *,
    margin: float | None,
    minimum: int,
    alpha: float = ALPHA,
) -> dict[str, Verdict]:
    """Compare every optimizer with the best one, paired by seed, with Holm's correction (rules 20 to 24).

    The best optimizer has the highest mean over the seeds common to all, or over its own seeds if too few
    are common; an optimizer significantly above it, over the seeds common to both, replaces it. Selection
    and tests use the same scores, so best against worst is the largest of all k (k - 1) / 2 differences:
    these form the family of the correction. Ties are tested at `alpha` without correction.

    Args:
        values: by name, the score (higher is better) of each completed seed.
        failures: by name, the number of failed runs; 0 if missing.
        margin: largest irrelevant difference, fixed in advance; with None no tie is reported.
        minimum: seeds, also in common with the best, that an optimizer needs to be compared.
        alpha: level of every test.

    """
    failed = {name for name in values if failures.get(name, 0) or not values[name]}
    sound = sorted(values.keys() - failed)
    verdicts = {name: Verdict(Word.FAILED) for name in sorted(failed)}
    verdicts |= {name: Verdict(Word.UNDECIDED if len(values) > 1 else Word.ALONE) for name in sound}
    enough = [name for name in sound if len(values[name]) >= max(minimum, 2)]
    if not enough:
        return verdicts
    family = len(enough) * (len(enough) - 1) // 2
    best, passed = _highest(values, enough, minimum), set[str]()
    while True:
        others = [
            name
            for name in enough
            if name != best and len(values[name].keys() & values[best].keys()) >= max(minimum, 2)
        ]
        if not others and (len(sound) > 1 or not failed):
            return verdicts  # without a comparison there is no best
        differences = {name: Differences.of(values[name], values[best]) for name in others}
        adjusted = holm({name: differences[name].p_value() for name in others}, family)
        passed.add(best)
        # A mean may be the highest only because of seeds that the other lacks: the paired test decides.
        above = [
            name
            for name in others
            if name not in passed and adjusted[name] <= alpha and differences[name].mean > 0
        ]
        if not above:
            break
        best = max(above, key=lambda name: (differences[name].mean, name))
    verdicts[best] = Verdict(Word.BEST, best_set=True)
    for name, difference in differences.items():
        worse = adjusted[name] <= alpha and difference.mean < 0
        equivalent = margin is not None and difference.p_equivalent(margin) <= alpha
        verdicts[name] = Verdict(
            Word.WORSE if worse else Word.TIE if equivalent else Word.UNRESOLVED,
            best_set=not worse,
            p=adjusted[name],
            difference=difference.mean,
            detectable=difference.detectable(alpha=alpha / family),
            equivalent=equivalent,
        )
    return verdicts


def _highest(values: Mapping[str, Mapping[int, float]], names: Sequence[str], minimum: int) -> str:
    """Return the name with the highest mean, over the seeds common to all if these suffice."""
    common = set.intersection(*(set(values[name]) for name in names))

    def mean(name: str) -> float:
        seeds = common if len(common) >= max(minimum, 2) else values[name].keys()
        return statistics.fmean(values[name][seed] for seed in sorted(seeds))

    return max(names, key=lambda name: (mean(name), name))
