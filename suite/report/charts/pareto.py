"""The Pareto front of cost and score: the points that no other point dominates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Point = tuple[float, float]
"""Cost (less is better) and score (more is better)."""


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other dominates, each once, by cost.

    (c, s) dominates another point if its cost is no larger, its score no smaller, and one of them better.
    """
    kept: list[Point] = []
    for cost, score in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not kept or score > kept[-1][1]:
            kept.append((cost, score))
    return kept


def staircase(kept: Sequence[Point], end: float) -> list[Point]:
    """Return the corners of the best score by largest allowed cost, up to the `end` of the axis."""
    return [*kept, (end, kept[-1][1])] if kept else []
