"""The charts of a page: which there are, what they say in words, and their specs in both themes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from suite.report import charts
from suite.report.charts.lines import TITLES
from suite.report.charts.theme import DASHES, SHAPES
from suite.report.curves import Curve, curves
from suite.report.leaderboard import Table
from suite.report.markdown import VIEW_TITLES
from suite.sharpness import MEASURES

MEASURED = (*MEASURES, "sharpness_train_loss")
"""Columns of the measures along training, and of the loss that stands beside them (protocol rule 27)."""

CURVES = {name: TITLES[name] for name in ("train_loss", "validation_accuracy", *MEASURED)}
"""Columns of the metrics that a page shows over seeds, and the titles of their axes."""

RUN_CURVES = {
    "Loss": ("train_loss", "validation_loss"),
    "Accuracy": ("train_accuracy", "validation_accuracy"),
    **{TITLES[name].capitalize(): (name,) for name in MEASURED},
    "Learning rate": ("lr",),
}
"""Charts of one run, or of two beside each other, and their columns; those without values are not shown."""

Rows = Sequence[Mapping[str, Any]]

_MOST_POINTS = 11


@dataclass(frozen=True)
class Plot:
    """One chart of a page."""

    name: str
    """Unique on its page."""
    title: str
    subtitle: str
    description: str
    """For those who do not see it."""
    spec: charts.Spec
    saved: Mapping[str, Any]
    """Its title where the page is not around it: in a file."""


@dataclass(frozen=True)
class CurveTable:
    """A few points of the curves of one column, as numbers."""

    title: str
    along: str
    optimizers: tuple[str, ...]
    lines: tuple[tuple[float, tuple[float | None, ...]], ...]
    percent: bool


def table_curves(table: Table, rows_of: Callable[[str], Rows]) -> list[Curve]:
    """Average the metrics of the table's runs over seeds, along what its view holds equal."""
    along = "sample_gradients" if table.view == "sample-gradients" else "epoch"
    rows = {row.optimizer: [rows_of(run_id) for run_id in row.runs] for row in table.rows}
    carried = {name for runs in rows.values() for run in runs for row in run for name in row}
    return [curve for column in CURVES if column in carried for curve in curves(rows, column, along)]


def of_table(table: Table, found: Sequence[Curve], names: Sequence[str]) -> list[Plot]:
    """Every chart of one table: those of its rows, then its learning curves."""
    plots = [_plot(name, spec) for name, spec in charts.of_table(table, names).items()]
    for column, y_title in CURVES.items():
        some = [curve for curve in found if curve.column == column]
        if some:
            title = f"{y_title.partition(',')[0].capitalize()} over training: {table.task} on {table.data}"
            examples = "/".join(map(str, table.measures.get(column, ())))
            y_title += f", {examples} examples" if examples else ""
            spec = charts.curve_bands(some, title, TITLES[some[0].along], y_title, names)
            plot = _plot(column.replace("_", "-"), spec)
            lines = [f"{VIEW_TITLES[table.view]}, {table.budget:g}x", *plot.saved.get("subtitle", ())]
            plots.append(replace(plot, saved={**plot.saved, "subtitle": lines}))
    return plots


def _plot(name: str, spec: charts.Spec) -> Plot:
    """Take the titles out of a chart: the page wraps them, as no chart can, and has told the task above."""
    rest = {key: value for key, value in spec.items() if key != "title"}
    title = spec["title"]
    lines = title.get("subtitle", ())
    short = title["text"].partition(":")[0]
    return Plot(name, short, "; ".join(lines[1:] or lines), spec["description"], rest, title)


def numbers(found: Sequence[Curve]) -> list[CurveTable]:
    """Thin the curves out to a table that can be read: the last point and about ten before it."""
    tables = []
    for column, title in CURVES.items():
        some = [curve for curve in found if curve.column == column]
        places = sorted({x for curve in some for x in curve.x})
        if not places:
            continue
        step = -(-len(places) // _MOST_POINTS)
        chosen = sorted({*places[::-1][::step], places[0]})
        means = [dict(zip(curve.x, curve.mean, strict=True)) for curve in some]
        lines = tuple((x, tuple(mean.get(x) for mean in means)) for x in chosen)
        names = tuple(curve.optimizer for curve in some)
        tables.append(CurveTable(title, TITLES[some[0].along], names, lines, column.endswith("accuracy")))
    return tables


def for_page(plot: Plot) -> charts.Spec:
    """Make a chart whose width the page sets; its colours are apart, in `themes`."""
    out = charts.themed(plot.spec, dark=False) | {"usermeta": {"saved": plot.saved}}
    height = out.get("height")
    if isinstance(height, Mapping):  # a step a row would not go with a width that fits
        out["height"] = height["step"] * max(1, len(out["data"]["values"]))
    out["autosize"] = {"type": "fit-x", "contains": "padding"}
    # The library of the page is newer than that of the figures, and would say so at every chart.
    return {key: value for key, value in out.items() if key not in ("config", "$schema")}


def themes() -> dict[str, Any]:
    """Give the look of every chart in either theme."""
    looks = {name: charts.themed({}, dark=name == "dark")["config"] for name in ("light", "dark")}
    return {name: look | {"legend": look["legend"] | {"titleLimit": 400}} for name, look in looks.items()}


def of_runs() -> list[dict[str, Any]]:
    """Give the charts of one run and of two, around no data: the page puts in that of the runs it shows."""
    out = []
    axes = {title: title.lower() + (", %" if title == "Accuracy" else "") for title in RUN_CURVES}
    for title, columns in RUN_CURVES.items():
        row: dict[str, Any] = {"epoch": 1.0} | dict.fromkeys(columns, 0.5)
        found = {}
        for labels in (("",), ("A", "B")):
            spec = charts.run_curves({label: [row] for label in labels}, columns, title)
            page = for_page(_plot(title, spec))
            for layer in page["layer"]:  # the legend names the columns already
                layer["encoding"]["y"] = {**layer["encoding"]["y"], "title": axes[title]}
            if len(labels) > 1:
                _by_run(page["layer"], labels, [TITLES[name] for name in columns])
            found[str(len(labels))] = {**page, "data": {"values": []}}
        out.append({"title": title, "columns": {name: TITLES[name] for name in columns}, "specs": found})
    return out


def _by_run(layers: Sequence[charts.Spec], labels: Sequence[str], columns: Sequence[str]) -> None:
    """Tell runs by colour and symbol, and columns by dash."""
    run = {"field": "run", "type": "nominal"}
    color = run | {"scale": {"domain": labels}, "legend": {"title": None}}
    dashes = [list(dash) for dash in DASHES[: len(columns)]]
    several = {"title": None, "symbolType": "stroke", "symbolSize": 600, "columns": 1}
    legend = several if len(columns) > 1 else None
    for layer in layers:
        encoding = layer["encoding"]
        if "color" in encoding:
            encoding["color"] = color
        if "shape" in encoding:
            encoding["shape"] = color | {"scale": {"domain": labels, "range": list(SHAPES[: len(labels)])}}
        if "strokeDash" in encoding:
            scale = {"domain": columns, "range": dashes}
            encoding["strokeDash"] = {"field": "column", "type": "nominal", "scale": scale, "legend": legend}


def script(name: str, value: Any) -> str:
    """Write data as a script that a page loads from beside it: from a disk, only scripts can be loaded."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"(window.steppe = window.steppe || {{}}).{name} = {text};\n"
