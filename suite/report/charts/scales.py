"""Parts shared by all charts: looks of names, layers, and axes that fit their values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from suite.report import text
from suite.report.charts.theme import DASHES, LABEL_LIMIT, SCHEMA, SHAPES, WIDTH, Spec, turn

HEIGHT = 340
"""Height of a chart, in pixels."""

LOG_SPAN = 30
"""Ratio of largest to smallest value from which an axis of scale `auto` is logarithmic."""


class Looks:
    """Colour, shape and dash of every name of a report, by their order.

    Colour and shape encode a field of labels, the dash a field of indices: Vega merges legends of one field,
    and dashes in the merged legend would break up the outlines of its symbols.
    """

    def __init__(self, names: Sequence[str], here: Iterable[str]) -> None:
        """Assign looks to `names`, then to names that occur only `here`."""
        occurring = set(here)
        self._labels = text.distinct(dict.fromkeys([*names, *sorted(occurring - set(names))]))
        self._index = {name: i for i, name in enumerate(self._labels)}
        self._here = [label for name, label in self._labels.items() if name in occurring]

    def label(self, name: str) -> str:
        """Return the displayed form of a name."""
        return self._labels[name]

    def index(self, name: str) -> int:
        """Return the index of a name."""
        return self._index[name]

    def color(self, field: str) -> Spec:
        """Encode labels by the colours of the theme."""
        return {"field": field, "type": "nominal", "scale": {"domain": list(self._labels.values())}}

    def shape(self, field: str) -> Spec:
        """Encode labels by symbols."""
        shapes = [turn(i, SHAPES) for i in self._index.values()]
        return {"field": field, "type": "nominal",
                "scale": {"domain": list(self._labels.values()), "range": shapes}}  # fmt: skip

    def dash(self, field: str) -> Spec:
        """Encode indices by dash patterns."""
        indices = list(self._index.values())
        dashes = [list(turn(i, DASHES)) for i in indices]
        return {"field": field, "type": "nominal", "legend": None,
                "scale": {"domain": indices, "range": dashes}}  # fmt: skip

    def legend(self) -> Spec:
        """Return the legend of the names that occur; one layer of a chart declares it."""
        wide = 45 + min(LABEL_LIMIT, 7 * max(map(len, self._here), default=0))
        columns = {"expr": f"max(1, floor(width / {wide}))"}
        return {"legend": {"values": self._here, "title": None, "columns": columns}}


def chart(
    title: str,
    subtitle: Sequence[str],
    spoken: str,
    values: Sequence[dict[str, Any]],
    layers: Sequence[Spec],
    of: Literal["row", "run"],
    height: int = HEIGHT,
) -> Spec:
    """Combine a title, the data `of` rows or runs, and layers; `spoken` is for screen readers."""
    lines = [*subtitle, *([] if values else [f"nothing to show: no {of} has these numbers"])]
    return {
        "$schema": SCHEMA,
        "title": {"text": title, **({"subtitle": lines} if lines else {})},
        "description": spoken,
        "width": WIDTH,
        "height": height,
        "data": {"values": list(values)},
        "layer": list(layers),
    }


def layer(mark: str, encoding: Spec, *, where: str = "", **look: Any) -> Spec:
    """Draw one mark per datum, or only for those for which the expression `where` is true."""
    chosen = {"transform": [{"filter": where}]} if where else {}
    return {**chosen, "mark": {"type": mark, **look}, "encoding": encoding}


def quantity(field: str, scale: Spec | None = None) -> Spec:
    """Encode a number, on a scale made by `axis`."""
    return {"field": field, "type": "quantitative", **(scale or {})}


def axis(
    title: str,
    values: Iterable[float | None],
    *,
    scale: Literal["linear", "log", "auto"] = "linear",
    tight: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Spec:
    """Return scale and axis of a quantity: the range of its values with a margin, not forced to include 0.

    Args:
        title: with its unit.
        values: all drawn values, ends of intervals included.
        scale: `auto` is logarithmic for a wide range, see `LOG_SPAN`; no value is below 0 on `log`.
        tight: whether to omit the margin.
        within: the possible range of the quantity; margin and intervals are cut off there.

    """
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low > 0 and known and (scale == "log" or (scale == "auto" and high >= LOG_SPAN * low)):
        pad = 10 ** (0.06 * (math.log10(high) - math.log10(low))) if high > low else 2.0
        return {"title": f"{title} (log scale)", "axis": log_ticks(low / pad, high * pad),
                "scale": {"type": "log", "domain": [low / pad, high * pad], "nice": False}}  # fmt: skip
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    if tight and high > low:
        pad = 0.0
    bottom = 0.0 if 0 <= low < pad else low - pad
    domain = [max(within[0], bottom), min(within[1], high + pad)]
    beyond = {"clamp": True} if low < within[0] or high > within[1] else {}
    return {"title": title, "axis": {"tickCount": 7},
            "scale": {"domain": domain, "zero": False, "nice": False, **beyond}}  # fmt: skip


def log_ticks(low: float, high: float) -> Spec:
    """Return the ticks of a logarithmic axis: powers of ten if there are at least three; as in `runs.js`."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    ticks: Spec = {"format": "~g" if low >= 1e-4 and high < 1e6 else "~e", "tickCount": 6}
    if last - first > 1:
        ticks["values"] = [float(f"1e{power}") for power in range(first, last + 1, (last - first) // 7 + 1)]
    return ticks


def join(parts: Iterable[str]) -> str:
    """Join the parts that are not empty on one line."""
    return " · ".join(filter(None, parts))
