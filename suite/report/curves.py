"""Learning curves over seeds: the mean and its 95 % t interval at every epoch, on the metric's scale."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.report.columns import RowColumn
from suite.report.runs import number
from suite.report.stats import Interval, mean_interval

AXES = {"epoch": "epoch", "sample_gradients": "sample-gradients"}
"""Columns that may be the horizontal axis of a curve, with the titles of the axes."""


@dataclass(frozen=True)
class Curve:
    """One column of the metrics of one optimizer, over its seeds."""

    optimizer: str
    column: str
    along: str
    """The column on the horizontal axis, one of `AXES`."""
    x: tuple[float, ...]
    mean: tuple[float, ...]
    """Geometric mean if the column is on a log scale."""
    low: tuple[float | None, ...]
    """Lower end of the 95 % t interval of the mean; None if only one run has the epoch."""
    high: tuple[float | None, ...]
    counts: tuple[int, ...]
    """Runs averaged at each point: a run that ended early is missing from later points."""
    n: int
    """Runs with at least one point."""


def curves(
    rows: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], column: RowColumn, x: str = "epoch"
) -> list[Curve]:
    """Average the seeds of every optimizer at each epoch; an optimizer without the column has no curve.

    Args:
        rows: by optimizer, the metrics rows of each of its runs.
        column: the quantity; values that are missing or not finite are skipped.
        x: one of `AXES`. At an epoch, sample-gradients are the mean over the seeds.

    """
    found = (_curve(name, runs, column, x) for name, runs in sorted(rows.items()))
    return [curve for curve in found if curve is not None]


def _curve(name: str, runs: Sequence[Sequence[Mapping[str, Any]]], column: RowColumn, x: str) -> Curve | None:
    values: dict[float, list[float]] = defaultdict(list)
    places: dict[float, list[float]] = defaultdict(list)
    used = 0
    for run in runs:
        points = {}
        for row in run:
            epoch, place, value = (number(row.get(key)) for key in ("epoch", x, column.key))
            if epoch is not None and place is not None and value is not None:
                points[epoch] = (place, value)
        used += bool(points)
        for epoch, (place, value) in points.items():
            places[epoch].append(place)
            values[epoch].append(column.metric.on_scale(value))
    if not used:
        return None
    bands: list[tuple[float, Interval]] = sorted(
        ((statistics.fmean(places[epoch]), mean_interval(some)) for epoch, some in values.items()),
        key=lambda point: point[0],
    )

    def unscaled(end: float | None) -> float | None:
        return None if end is None else column.unscaled(end)

    return Curve(
        optimizer=name,
        column=column.key,
        along=x,
        x=tuple(place for place, _ in bands),
        mean=tuple(column.unscaled(band.mean) for _, band in bands),
        low=tuple(unscaled(band.low) for _, band in bands),
        high=tuple(unscaled(band.high) for _, band in bands),
        counts=tuple(band.n for _, band in bands),
        n=used,
    )
