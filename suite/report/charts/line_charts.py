"""Learning curves: means with bands over seeds, or lines of single runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from suite.report import text
from suite.report.charts.scales import Looks, axis, chart, join, layer, quantity
from suite.report.charts.theme import Spec
from suite.report.columns import RowColumn
from suite.report.curves import AXES, Curve
from suite.report.runs import number
from suite.terminal.table import plural

_SYMBOLS = 6
"""Symbols along a line."""


def curve_bands(
    curves: Sequence[Curve], column: RowColumn, title: str, y_title: str = "", names: Sequence[str] = ()
) -> Spec:
    """Draw the curves of one column with their bands over seeds.

    Args:
        curves: of that column, along one axis.
        column: the quantity of the curves.
        title: of the chart.
        y_title: of the vertical axis, with its unit; by default the column's.
        names: the entries of the whole report; each has the same look in all charts.

    """
    looks = Looks(names, (curve.optimizer for curve in curves))
    x_title, y_title = AXES[curves[0].along if curves else "epoch"], y_title or column.title
    values = [value for curve in curves for value in _points(curve, looks, column)]
    ends = [value[field] for value in values for field in ("mean", "low", "high")]
    x, y = _x(x_title, values), _y(y_title, ends, [column])
    edges = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": looks.color("line")}
    band = layer("area", edges, where="isValid(datum.low)", opacity=0.15, aria=False)
    tooltip = [{"field": "line", "title": "optimizer"}, {"field": "x", "title": x_title},
               {"field": "mean", "title": y_title, "format": ".4g"},
               {"field": "interval", "title": "95 % interval"}, {"field": "n", "title": "runs"}]  # fmt: skip
    layers = [band, *_lines(looks, x, y, tooltip)]
    runs = [curve.n for curve in curves]
    n = text.runs(runs) if runs else "no runs"
    banded = any(value["low"] is not None for value in values)
    means = f"line: mean over runs; {'band: 95 % t interval' if banded else 'no interval'}"
    ended = any(min(curve.counts) < curve.n for curve in curves)
    early = "a run that ended early is in no later point" if ended else ""
    last = [f"{looks.label(curve.optimizer)} {column.shown(curve.mean[-1])}" for curve in curves]
    spoken = f"{text.plain(title)}, {y_title} by {x_title}, {n}. Last values: {'; '.join(last) or 'none'}."
    seeds = f"{n} {plural(max(runs), 'seed')}" if runs else n
    return chart(text.plain(title), [join([seeds, means, early])], spoken, values, layers, "run")


def run_curves(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    columns: Sequence[RowColumn],
    title: str = "",
    x: str = "epoch",
    x_title: str = "",
) -> Spec:
    """Draw columns of the metrics of one or a few runs on one axis.

    Args:
        rows: by the run's label, its metrics rows.
        columns: of one unit, for instance training and validation loss.
        title: of the chart; by default the columns'.
        x: the column on the horizontal axis.
        x_title: of that axis, with its unit; by default from `AXES`.

    """
    x_title = x_title or AXES[x]
    runs, parts = text.distinct(rows), {column: column.title for column in columns}
    names = text.distinct(
        f"{run}, {part}" if len(runs) > 1 else part for run in runs.values() for part in parts.values()
    )
    looks = Looks(list(names), names)
    values: list[dict[str, Any]] = []
    for (run, column), line in zip(itertools.product(runs, parts), names, strict=True):
        points = [(number(row.get(x)), number(row.get(column.key))) for row in rows[run]]
        known = [(at, value) for at, value in points if at is not None and value is not None]
        values += [
            {"x": at, "mean": column.plain(value), **_look(looks, line, i, len(known))}
            for i, (at, value) in enumerate(known)
        ]
    y_title = " and ".join(parts.values())
    vertical = _y(y_title, [value["mean"] for value in values], columns)
    tooltip = [{"field": "line", "title": "line"}, {"field": "x", "title": x_title},
               {"field": "mean", "title": "value", "format": ".4g"}]  # fmt: skip
    title = text.plain(title or y_title)
    spoken = f"{title}: {y_title} by {x_title} of {', '.join(runs.values()) or 'no run'}."
    layers = _lines(looks, _x(x_title, values), vertical, tooltip)
    return chart(title, [], spoken, values, layers, "run")


def _lines(looks: Looks, x: Spec, y: Spec, tooltip: list[Spec]) -> list[Spec]:
    """Draw lines by colour and dash, with a few symbols; every point has a tooltip."""
    line = {"x": x, "y": y, "color": looks.color("line"), "strokeDash": looks.dash("index")}
    symbol = {"x": x, "y": y, "color": looks.color("line") | looks.legend(),
              "shape": looks.shape("line") | looks.legend()}  # fmt: skip
    return [
        layer("line", line, aria=False),
        layer("point", symbol, where="datum.symbol", aria=False, size=70),
        layer("point", {"x": x, "y": y, "tooltip": tooltip}, opacity=0, size=140, aria=False),
    ]


def _points(curve: Curve, looks: Looks, column: RowColumn) -> list[dict[str, Any]]:
    """Return the points of a curve as data."""
    out = []
    columns = zip(curve.x, curve.mean, curve.low, curve.high, curve.counts, strict=True)
    for i, (x, *ends, n) in enumerate(columns):
        mean, low, high = (None if end is None else column.plain(end) for end in ends)
        interval = f"{low:.4g} to {high:.4g}" if low is not None else "none from one run"
        point = {"x": x, "mean": mean, "low": low, "high": high, "n": n, "interval": interval}
        out.append(point | _look(looks, curve.optimizer, i, len(curve.x)))
    return out


def _look(looks: Looks, name: str, i: int, length: int) -> dict[str, Any]:
    """Return the line of a point and whether it has a symbol; symbols of different lines are offset."""
    index, every = looks.index(name), max(1, length // _SYMBOLS)
    symbol = i % every == index * max(1, every // _SYMBOLS) % every
    return {"line": looks.label(name), "index": index, "symbol": symbol}


def _x(title: str, values: Sequence[Mapping[str, Any]]) -> Spec:
    return quantity("x", axis(title, [value["x"] for value in values], tight=True))


def _y(title: str, values: Sequence[float | None], columns: Sequence[RowColumn]) -> Spec:
    if all(column.percent for column in columns):
        return quantity("mean", axis(title, values, within=(0.0, 100.0)))
    log = all(column.metric.scale == "log" for column in columns)
    return quantity("mean", axis(title, values, scale="log" if log else "auto"))
