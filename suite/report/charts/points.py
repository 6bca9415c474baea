"""Charts of a table's rows: a dot for a mean, a line for its 95 % t interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from suite.report import text
from suite.report.charts.pareto import front, staircase
from suite.report.charts.rows import chart, shorten, tooltip, values_of
from suite.report.charts.scales import Looks, axis, join
from suite.report.charts.theme import Spec
from suite.report.columns import Column
from suite.report.leaderboard import Table
from suite.report.notes import in_rows
from suite.report.rows import Row
from suite.report.stats import Word

VERDICTS = {Word.BEST: "circle", Word.TIE: "diamond", Word.UNRESOLVED: "square", Word.WORSE: "triangle-down",
            Word.UNDECIDED: "triangle-right", Word.ALONE: "triangle-up", Word.FAILED: "cross"}  # fmt: skip
"""Symbol of each word of a comparison (`suite.report.stats.Verdict`)."""

_DONE = {"filter": "isValid(datum.mean)"}
_LOST = {"filter": "!isValid(datum.mean)"}

_DODGE = 0.012
"""Points at one cost are set beside each other, this share of the axis apart."""


def scores(table: Table, names: Sequence[str] = ()) -> Spec:
    """Draw what rows are compared by, of every row with its interval and verdict.

    Args:
        table: the rows, in their order.
        names: the entries of the whole report, so that each keeps its colour from chart to chart.

    """
    looks = Looks(names, (row.entry for row in table.rows))
    labels = text.distinct(row.optimizer for row in table.rows)
    column = table.score
    values = [values_of(row, looks, labels, column) for row in table.rows]
    scale = _axis(column, values)
    low, high = scale["scale"]["domain"]
    place = math.log if scale["scale"].get("type") == "log" else float
    for value in values:
        mean = value["mean"]
        share = 0.5 if mean is None else (place(mean) - place(low)) / (place(high) - place(low))
        value["align"] = "left" if share < 0.25 else "right" if share > 0.75 else "center"
    y = {"field": "optimizer", "type": "nominal", "title": None, "scale": {"domain": list(labels.values())},
         "axis": {"grid": True}}  # fmt: skip
    x = {"field": "mean", "type": "quantitative", **scale}
    color = looks.color("entry") | {"legend": None}
    dot = {
        "transform": [_DONE],
        "mark": {"type": "point", "size": 130},
        "encoding": {"x": x, "y": y, "shape": _verdicts(table), "color": color, "tooltip": tooltip(column),
                     "description": {"field": "told"}},
    }  # fmt: skip
    word = {
        "transform": [_DONE],
        "mark": {"type": "text", "dy": -13, "align": {"expr": "datum.align"}, "aria": False},
        "encoding": {"x": x, "y": y, "text": {"field": "note"}},
    }
    rule = _rule(x=x | {"field": "low"}, x2={"field": "high"}, y=y, color=color)
    worst, side = ("width", "right") if column.metric.better == "lower" else (10, "left")
    lost = _failed({"x": {"value": worst}, "y": y}, {"field": "note"}, 0, column, side)
    shown = "dot: mean over completed runs; line: 95 % t interval over seeds; shape and word: the comparison"
    floored = in_rows((row, row.floored.get(column.key, 0)) for row in table.rows)
    extra = [f"counted as the floor, {column.metric.floor:g}: {text.plain(floored)}"] if floored else []
    layers = [rule, dot, word, *lost]
    return chart(table, _title(column), shown, values, layers, extra, height=42 * max(1, len(values)))


def _verdicts(table: Table) -> Spec:
    """Encode the verdicts that occur by their symbols."""
    found = {row.verdict.word for row in table.rows}
    words = {text.WORDS[word]: symbol for word, symbol in VERDICTS.items() if word in found}
    legend = {
        "title": "compared with the best mean",
        "symbolFillColor": "gray",
        "symbolStrokeColor": "gray",
    }
    scale = {"domain": list(words), "range": list(words.values())}
    return {"field": "verdict", "type": "nominal", "scale": scale, "legend": legend if words else None}


@dataclass(frozen=True)
class _Cost:
    """What a row may be dear in."""

    title: str
    words: str
    of: Callable[[Row], float | None]


_COSTS = {
    "cost": _Cost("cost in sample-gradients, times the task's budget", "cost",
                  lambda row: row.cost),
    "seconds": _Cost("median training time, s", "training time", lambda row: row.train_s),
}  # fmt: skip


def cost_scores(table: Table, names: Sequence[str] = (), by: str = "cost") -> Spec:
    """Draw what rows are compared by against what it took, and the Pareto front of the means.

    The front is of rows without a failed run (protocol rule 24). Seconds are those of one hardware and
    software, the one that most rows ran on (rule 5).

    Args:
        table: the rows.
        names: the entries of the whole report, see `scores`.
        by: "cost" for sample-gradients, or "seconds".

    """
    cost, column = _COSTS[by], table.score
    rows = _timed(table) if by == "seconds" else list(table.rows)
    looks = Looks(names, (row.entry for row in rows))
    labels = text.distinct(row.optimizer for row in rows)
    taken = [(row, took) for row in rows if (took := cost.of(row)) is not None]
    values = [values_of(row, looks, labels, column) | {"x": took} for row, took in taken]
    x_axis = axis(cost.title, [took for _, took in taken])
    low, high = x_axis["scale"]["domain"]
    _dodge(values, _DODGE * (high - low))
    sign = -1 if column.metric.better == "lower" else 1
    sound = [
        (x, sign * row.values[column.key].mean)
        for row, x in taken
        if column.key in row.values and not row.failed
    ]
    best = [(at, column.plain(sign * mean)) for at, mean in staircase(front(sound), high)]
    x = {"field": "at", "type": "quantitative", **x_axis}
    y = {"field": "mean", "type": "quantitative", **_axis(column, values)}
    line: Spec = {
        "data": {"values": [{"at": at, "mean": shorten(mean)} for at, mean in best]},
        "mark": {"type": "line", "interpolate": "step-after", "style": "front", "aria": False},
        "encoding": {"x": x, "y": y, "order": {"field": "at", "type": "quantitative"}},
    }
    shown = "dot: mean; line: 95 % t interval; equal costs side by side; dashed: Pareto front of the means"
    rule = _rule(x=x, y=y | {"field": "low"}, y2={"field": "high"}, color=looks.color("entry"))
    layers = [*([line] if best else []), *_dots(looks, x, y, [rule], column)]
    machine = next((text.plain(row.fingerprint) for row in rows if by == "seconds"), "")
    extra = [f"seconds compare only on an otherwise idle machine; here {machine}"] if machine else []
    out = [row.optimizer for row in table.rows if row.optimizer not in {kept.optimizer for kept, _ in taken}]
    extra += [f"not shown, without seconds there: {text.plain(', '.join(out))}"] if out else []
    return chart(table, f"{_title(column)} against {cost.words}", shown, values, layers, extra)


def sharpness_scores(table: Table, measure: str, names: Sequence[str] = ()) -> Spec:
    """Draw what rows are compared by against a sharpness measure, with the intervals of both."""
    column = table.score
    looks = Looks(names, (row.entry for row in table.rows))
    labels = text.distinct(row.optimizer for row in table.rows)
    values, missing = [], []
    for row in table.rows:
        found = row.measures.get(measure)
        if found is None or column.key not in row.values:
            missing.append(labels[row.optimizer])
            continue
        over = found.over_seeds
        values.append(
            values_of(row, looks, labels, column)
            | {"at": over.mean, "left": over.low, "right": over.high, "measured": text.measured(over)}
        )
    counts = "/".join(map(str, table.measures.get(measure, ())))
    name = text.plain(measure)
    title = f"{name} at {counts} training examples" if counts else name
    x_axis = axis(title, _ends(values, "at", "left", "right"), scale="auto")
    x = {"field": "at", "type": "quantitative", **x_axis}
    y = {"field": "mean", "type": "quantitative", **_axis(column, values)}
    color = looks.color("entry")
    rules = [
        _rule(x=x, y=y | {"field": "low"}, y2={"field": "high"}, color=color),
        _rule(y=y, x=x | {"field": "left"}, x2={"field": "right"}, color=color),
    ]
    layers = _dots(looks, x, y, rules, column, {"field": "measured", "title": name})
    unlike = {True: "at matched training loss", False: "not at matched training loss", None: ""}
    shown = join(["dot: mean; lines: 95 % t intervals of both", unlike[table.matched_loss]])
    lost = [f"not shown, without this measure or a completed run: {', '.join(missing)}"] if missing else []
    return chart(table, f"{_title(column)} against {name}", shown, values, layers, lost)


def of_table(table: Table, names: Sequence[str] = ()) -> dict[str, Spec]:
    """Every chart that says something of a table, by a short name, in the order to show them.

    Costs are drawn where they differ: in the view that makes them equal there is nothing to see.
    """
    found = {"scores": scores(table, names)}
    for by, cost in _COSTS.items():
        rows = _timed(table) if by == "seconds" else table.rows
        costs = [x for row in rows if (x := cost.of(row)) is not None]
        if len(costs) > 1 and max(costs) > 1.1 * min(costs) and table.view != by:
            found[by] = cost_scores(table, names, by)
    for measure in table.measures:
        if sum(measure in row.measures for row in table.rows) > 1:
            found[f"sharpness-{measure}"] = sharpness_scores(table, measure, names)
    return found


def _timed(table: Table) -> list[Row]:
    """Rows whose seconds compare: those on the fingerprint that most of them have."""
    known = [row for row in table.rows if row.train_s is not None]
    counts = {name: sum(row.fingerprint == name for row in known) for name in table.fingerprints}
    chosen = max(sorted(counts), key=lambda name: counts[name], default=None)
    return [row for row in known if row.fingerprint == chosen]


_DODGED = 8
"""Distances over which points of one cost are spread at most."""


def _title(column: Column) -> str:
    return text.plain(column.words).capitalize()


def _axis(column: Column, values: Iterable[dict[str, Any]]) -> Spec:
    return axis(column.title, _ends(values, "mean", "low", "high"), scale=column.metric.scale)


def _ends(values: Iterable[dict[str, Any]], *fields: str) -> list[float | None]:
    return [value[field] for value in values for field in fields]


def _dodge(values: list[dict[str, Any]], apart: float) -> None:
    """Set points of one cost beside each other, in the order of their names, around where they are."""
    for value in values:
        together = [other for other in values if abs(other["x"] - value["x"]) < apart / 2]
        shift = together.index(value) - (len(together) - 1) / 2
        step = apart * min(1.0, _DODGED / max(1, len(together) - 1))  # many of one cost stay on the axis
        value["at"] = value["x"] + shift * step


def _rule(**encoding: Spec) -> Spec:
    """Draw an interval; a row without one has none."""
    field = next(channel["field"] for name, channel in encoding.items() if name in ("x2", "y2"))
    return {
        "transform": [{"filter": f"isValid(datum.{field})"}],
        "mark": {"type": "rule", "aria": False, "strokeCap": "round"},
        "encoding": encoding,
    }


def _dots(looks: Looks, x: Spec, y: Spec, rules: Sequence[Spec], column: Column, *told: Spec) -> list[Spec]:
    """Draw rows by colour and shape, their intervals below; those without a result at the worst edge."""
    worst, above = (0, 8) if column.metric.better == "lower" else ("height", -8)
    shown = {"color": looks.color("entry") | looks.legend(),
             "shape": looks.shape("entry") | looks.legend(),
             "tooltip": [*tooltip(column), *told], "description": {"field": "told"}}  # fmt: skip
    failing = {"filter": "isValid(datum.mean) && datum.losses > 0"}
    return [
        *rules,
        {"transform": [_DONE], "mark": {"type": "point"}, "encoding": {"x": x, "y": y, **shown}},
        {
            "transform": [failing],
            "mark": {"type": "text", "align": "left", "dx": 9, "dy": 9, "aria": False},
            "encoding": {"x": x, "y": y, "text": {"field": "verdict"}},
        },
        *_failed({"x": x, "y": {"value": worst}}, {"value": "no completed run"}, above, column),
    ]


def _failed(where: Spec, said: Spec, dy: int, column: Column, side: str = "left") -> list[Spec]:
    """Mark the rows without a completed run by a cross and words, on that edge where results are worst."""
    dx = 12 if side == "left" else -12
    return [
        {
            "transform": [_LOST],
            "mark": {"type": "point", "style": "failed"},
            "encoding": {**where, "tooltip": tooltip(column), "description": {"field": "told"}},
        },
        {
            "transform": [_LOST],
            "mark": {"type": "text", "align": side, "dx": dx, "dy": dy, "aria": False},
            "encoding": {**where, "text": said},
        },
    ]
