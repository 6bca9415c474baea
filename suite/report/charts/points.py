"""Charts of a table's rows: a dot for a mean, a line for its 95 % t interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from suite.report import text
from suite.report.charts.pareto import front, staircase
from suite.report.charts.row_charts import DONE, Rows, shorten
from suite.report.charts.scales import axis, join, layer, quantity
from suite.report.charts.theme import Spec
from suite.report.leaderboard import Table
from suite.report.notes import in_rows
from suite.report.rows import Row
from suite.report.verdicts import Word

VERDICTS = {Word.BEST: "circle", Word.TIE: "diamond", Word.UNRESOLVED: "square", Word.WORSE: "triangle-down",
            Word.UNDECIDED: "triangle-right", Word.ALONE: "triangle-up", Word.FAILED: "cross"}  # fmt: skip
"""Symbol of each verdict (`suite.report.verdicts.Verdict`)."""

_COSTS = {
    "cost": ("cost in sample-gradients, times the task's budget", "cost"),
    "seconds": ("median training time, s", "training time"),
}
"""By kind of cost, the title of the axis and the words in the heading."""

_DODGE = 0.012
"""Distance, as a share of the axis, between points of equal cost, which are drawn side by side."""
_DODGED = 8
"""Largest width of a group of points of equal cost, in such distances."""


def scores(table: Table, names: Sequence[str] = ()) -> Spec:
    """Draw the score of every row with its interval and verdict.

    Args:
        table: the rows, in their order.
        names: the entries of the whole report; each has the same colour in all charts.

    """
    rows = Rows(table, table.rows, names)
    values = [rows.value(row) for row in table.rows]
    scale = rows.scale(values)
    low, high = scale["scale"]["domain"]
    place = math.log if scale["scale"].get("type") == "log" else float
    for value in values:
        mean = value["mean"]
        share = 0.5 if mean is None else (place(mean) - place(low)) / (place(high) - place(low))
        value["align"] = "left" if share < 0.25 else "right" if share > 0.75 else "center"
    y = {"field": "optimizer", "type": "nominal", "title": None,
         "scale": {"domain": list(rows.labels.values())}, "axis": {"grid": True}}  # fmt: skip
    x = quantity("mean", scale)
    color = rows.looks.color("entry") | {"legend": None}
    dot = {"x": x, "y": y, "shape": _verdicts(table), "color": color, "tooltip": rows.tooltip(),
           "description": {"field": "told"}}  # fmt: skip
    word = {"x": x, "y": y, "text": {"field": "note"}}
    worst, side = ("width", "right") if rows.column.metric.better == "lower" else (10, "left")
    layers = [
        _rule("high", x=x | {"field": "low"}, x2={"field": "high"}, y=y, color=color),
        layer("point", dot, where=DONE, size=130),
        layer("text", word, where=DONE, dy=-13, align={"expr": "datum.align"}, aria=False),
        *rows.lost({"x": {"value": worst}, "y": y}, {"field": "note"}, 0, side),
    ]
    shown = "dot: mean over completed runs; line: 95 % t interval over seeds; shape and word: the comparison"
    floored = in_rows((row, row.floored.get(rows.column.key, 0)) for row in table.rows)
    extra = f"counted as the floor, {rows.column.metric.floor:g}: {text.plain(floored)}" if floored else ""
    return rows.chart("", shown, values, layers, extra, height=42 * max(1, len(values)))


def _verdicts(table: Table) -> Spec:
    """Encode the verdicts of the table by symbols."""
    found = {row.verdict.word for row in table.rows}
    words = {text.WORDS[word]: symbol for word, symbol in VERDICTS.items() if word in found}
    legend = {"title": "compared with the best mean", "symbolFillColor": "gray", "symbolStrokeColor": "gray"}
    scale = {"domain": list(words), "range": list(words.values())}
    return {"field": "verdict", "type": "nominal", "scale": scale, "legend": legend if words else None}


def cost_scores(table: Table, names: Sequence[str] = (), by: str = "cost") -> Spec:
    """Draw the score of every row against its cost, and the Pareto front of the means.

    The front ignores rows with a failed run (protocol rule 24). Seconds are those of one hardware and
    software, on which most rows ran (rule 5).

    Args:
        table: the rows.
        names: the entries of the whole report, see `scores`.
        by: "cost" for sample-gradients, or "seconds".

    """
    title, words = _COSTS[by]
    costs = _costs_of(table, by)
    rows = Rows(table, [row for row, _ in costs], names)
    column = rows.column
    values = [rows.value(row) | {"x": took} for row, took in costs]
    x_axis = axis(title, [took for _, took in costs])
    low, high = x_axis["scale"]["domain"]
    _dodge(values, _DODGE * (high - low))
    sign = -1 if column.metric.better == "lower" else 1
    sound = [
        (x, sign * row.values[column.key].mean)
        for row, x in costs
        if column.key in row.values and not row.failed
    ]
    best = [
        {"at": at, "mean": shorten(column.plain(sign * mean))} for at, mean in staircase(front(sound), high)
    ]
    x, y = quantity("at", x_axis), quantity("mean", rows.scale(values))
    corners = {"x": x, "y": y, "order": quantity("at")}
    line = layer("line", corners, interpolate="step-after", style="front", aria=False)
    rule = _rule("high", x=x, y=y | {"field": "low"}, y2={"field": "high"}, color=rows.looks.color("entry"))
    layers = [*([{"data": {"values": best}, **line}] if best else []), *_dots(rows, x, y, [rule])]
    shown = "dot: mean; line: 95 % t interval; equal costs side by side; dashed: Pareto front of the means"
    machine = text.plain(costs[0][0].fingerprint) if by == "seconds" and costs else ""
    idle = f"seconds compare only on an otherwise idle machine; here {machine}" if machine else ""
    out = [row.optimizer for row in table.rows if row not in rows.rows]
    lost = f"not shown, without seconds there: {text.plain(', '.join(out))}" if out else ""
    return rows.chart(words, shown, values, layers, idle, lost)


def sharpness_scores(table: Table, measure: str, names: Sequence[str] = ()) -> Spec:
    """Draw the score of every row against a sharpness measure, with the intervals of both."""
    rows = Rows(table, table.rows, names)
    values, missing = [], []
    for row in table.rows:
        found = row.measures.get(measure)
        if found is None or rows.column.key not in row.values:
            missing.append(rows.labels[row.optimizer])
            continue
        over = found.over_seeds
        values.append(
            rows.value(row)
            | {"at": over.mean, "left": over.low, "right": over.high, "measured": text.measured(over)}
        )
    counts = "/".join(map(str, table.measures.get(measure, ())))
    name = text.plain(measure)
    title = f"{name} at {counts} training examples" if counts else name
    ends = [value[field] for value in values for field in ("at", "left", "right")]
    x, y = quantity("at", axis(title, ends, scale="auto")), quantity("mean", rows.scale(values))
    color = rows.looks.color("entry")
    rules = [
        _rule("high", x=x, y=y | {"field": "low"}, y2={"field": "high"}, color=color),
        _rule("right", y=y, x=x | {"field": "left"}, x2={"field": "right"}, color=color),
    ]
    layers = _dots(rows, x, y, rules, {"field": "measured", "title": name})
    unlike = {True: "at matched training loss", False: "not at matched training loss", None: ""}
    shown = join(["dot: mean; lines: 95 % t intervals of both", unlike[table.matched_loss]])
    lost = f"not shown, without this measure or a completed run: {', '.join(missing)}" if missing else ""
    return rows.chart(name, shown, values, layers, lost)


def of_table(table: Table, names: Sequence[str] = ()) -> dict[str, Spec]:
    """Return the informative charts of a table by a short name, in display order.

    Costs are drawn only if they differ, so not in the view that makes them equal.
    """
    found = {"scores": scores(table, names)}
    for by in _COSTS:
        costs = [took for _, took in _costs_of(table, by)]
        if len(costs) > 1 and max(costs) > 1.1 * min(costs) and table.view != by:
            found[by] = cost_scores(table, names, by)
    for measure in table.measures:
        if sum(measure in row.measures for row in table.rows) > 1:
            found[f"sharpness-{measure}"] = sharpness_scores(table, measure, names)
    return found


def _costs_of(table: Table, by: str) -> list[tuple[Row, float]]:
    """Return rows with their cost; in seconds, only rows of the commonest fingerprint."""
    if by == "cost":
        return [(row, row.cost) for row in table.rows]
    known = [(row, row.train_s) for row in table.rows if row.train_s is not None]
    counts = {name: sum(row.fingerprint == name for row, _ in known) for name in table.fingerprints}
    chosen = max(sorted(counts), key=lambda name: counts[name], default=None)
    return [(row, took) for row, took in known if row.fingerprint == chosen]


def _dodge(values: list[dict[str, Any]], apart: float) -> None:
    """Move points of equal cost side by side, in the order of their names, centred at the cost."""
    for value in values:
        together = [other for other in values if abs(other["x"] - value["x"]) < apart / 2]
        shift = together.index(value) - (len(together) - 1) / 2
        step = apart * min(1.0, _DODGED / max(1, len(together) - 1))  # keeps large groups on the axis
        value["at"] = value["x"] + shift * step


def _rule(end: str, **encoding: Spec) -> Spec:
    """Draw an interval for each row that has its `end`."""
    return layer("rule", encoding, where=f"isValid(datum.{end})", aria=False, strokeCap="round")


def _dots(rows: Rows, x: Spec, y: Spec, rules: Sequence[Spec], *extra: Spec) -> list[Spec]:
    """Draw rows by colour and shape over their intervals; rows without a score at the edge of the worst."""
    worst, above = (0, 8) if rows.column.metric.better == "lower" else ("height", -8)
    looks = rows.looks
    shown = {"color": looks.color("entry") | looks.legend(), "shape": looks.shape("entry") | looks.legend(),
             "tooltip": [*rows.tooltip(), *extra], "description": {"field": "told"}}  # fmt: skip
    verdict = {"x": x, "y": y, "text": {"field": "verdict"}}
    failing = f"{DONE} && datum.losses > 0"
    return [
        *rules,
        layer("point", {"x": x, "y": y, **shown}, where=DONE),
        layer("text", verdict, where=failing, align="left", dx=9, dy=9, aria=False),
        *rows.lost({"x": x, "y": {"value": worst}}, {"value": "no completed run"}, above),
    ]
