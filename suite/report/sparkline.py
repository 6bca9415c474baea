"""Curves as lines of text: one block per value, its height scaled from the minimum to the maximum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from suite.terminal import output

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-=+*#@"
"""The marks for encodings without blocks."""

_MIN_WIDTH, _MAX_WIDTH = 10, 100
"""Characters of a curve of `draw`: on a narrower terminal, lines wrap; wider curves are hard to read."""


def levels(encoding: str | None) -> str:
    """Return the marks, from low to high, that an encoding can represent."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def sparkline(
    values: Sequence[float | None], width: int, marks: str = BLOCKS, *, sparse: bool = False
) -> str:
    """Draw the values on at most `width` characters; if there are more values, neighbours are averaged.

    A value that is missing or not finite is drawn as `x`. In a `sparse` curve, missing values are skipped,
    and a place without values stays blank. A constant curve is drawn at the lowest level.
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


def draw(curves: Mapping[str, Sequence[float | None]], heading: str) -> list[str]:
    """Draw each curve on a line that fits the terminal, with its minimum, maximum and last value.

    A None is a place without a value; a NaN is a value that was not finite.
    """
    facts = {
        name: _extremes([value for value in values if value is not None]) for name, values in curves.items()
    }
    names = max(map(len, curves), default=0)
    widths = [max((len(fact[i]) for fact in facts.values()), default=0) for i in range(3)]
    room = output.columns() - 1 - (2 + names + 2 + 3 * 2 + sum(widths))
    n_points = max(map(len, curves.values()), default=0)
    width = max(_MIN_WIDTH, min(_MAX_WIDTH, room, n_points))
    marks = levels(output.encoding())
    head = "  ".join(word.rjust(w) for word, w in zip(("min", "max", "last"), widths, strict=True))
    lines = [f"{heading:<{4 + names + width}}  {head}"]
    for name, values in curves.items():
        cells = "  ".join(text.rjust(w) for text, w in zip(facts[name], widths, strict=True))
        lines.append(f"  {name:<{names}}  {sparkline(values, width, marks, sparse=True):<{width}}  {cells}")
    return lines


def _extremes(values: Sequence[float]) -> tuple[str, str, str]:
    """Write minimum, maximum and last value; a dash for one that is not finite."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-", "-", "-"
    last = f"{values[-1]:.4g}" if math.isfinite(values[-1]) else "-"
    return f"{min(known):.4g}", f"{max(known):.4g}", last


def _parts(values: Sequence[float | None], width: int) -> list[Sequence[float | None]]:
    n = max(1, min(len(values), width))
    cuts = [round(i * len(values) / n) for i in range(n + 1)]
    return [values[a:b] for a, b in itertools.pairwise(cuts) if b > a]


def _mean(part: Sequence[float | None]) -> float | None:
    known = [value for value in part if value is not None]
    return fmean(known) if part and len(known) == len(part) and all(map(math.isfinite, known)) else None


def _level(value: float, low: float, high: float, n: int) -> int:
    span = high / 2 - low / 2  # halves, as the difference of two large numbers may overflow
    return min(n - 1, int((value / 2 - low / 2) / span * n)) if span > 0 else 0
