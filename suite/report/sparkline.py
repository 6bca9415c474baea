"""A curve in one line of text: a block a value, as high as the value stands between least and most."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import fmean

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-=+*#@"
"""Stands in where the output's encoding has no blocks."""


def levels(encoding: str | None) -> str:
    """Return the marks from low to high that an output of that encoding can show."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def sparkline(
    values: Sequence[float | None], width: int, marks: str = BLOCKS, *, sparse: bool = False
) -> str:
    """Draw the values on at most `width` characters; neighbours share one, by their mean, where they must.

    A value that is missing or not finite is an `x`. Of a `sparse` curve a missing one is none at all: where
    nothing else shares its place, that stays blank. A constant curve runs along the bottom.
    """
    parts = _parts(values, width)
    if sparse:
        parts = [[value for value in part if value is not None] for part in parts]
    binned = [_mean(part) for part in parts]
    known = [value for value in binned if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return "".join(
        " " if not part else "x" if value is None else marks[_level(value, low, high, len(marks))]
        for part, value in zip(parts, binned, strict=True)
    )


def _parts(values: Sequence[float | None], width: int) -> list[Sequence[float | None]]:
    n = max(1, min(len(values), width))
    cuts = [round(i * len(values) / n) for i in range(n + 1)]
    return [values[a:b] for a, b in itertools.pairwise(cuts) if b > a]


def _mean(part: Sequence[float | None]) -> float | None:
    known = [value for value in part if value is not None]
    return fmean(known) if part and len(known) == len(part) and all(map(math.isfinite, known)) else None


def _level(value: float, low: float, high: float, n: int) -> int:
    span = high / 2 - low / 2  # halves: the span of two large numbers may overflow
    return min(n - 1, int((value / 2 - low / 2) / span * n)) if span > 0 else 0
