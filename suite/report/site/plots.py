"""The charts of a page: their selection, descriptions in words, and specs in both themes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from suite.metric import PERCENT, Description
from suite.report import charts, text
from suite.report.charts.theme import DASHES, SHAPES
from suite.report.columns import RowColumn, curve_groups, page_curves
from suite.report.curves import AXES, Curve, curves
from suite.report.leaderboard import Table
from suite.spec import sha256_text

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
    """Text alternative for screen readers."""
    spec: charts.Spec
    saved: Mapping[str, Any]
    """Its title in a saved file, outside the page."""


@dataclass(frozen=True)
class CurveTable:
    """Selected points of the curves of one column, as numbers."""

    title: str
    along: str
    optimizers: tuple[str, ...]
    lines: tuple[tuple[float, tuple[float | None, ...]], ...]
    """Places on the horizontal axis, each with the displayed means."""


def table_curves(table: Table, rows_of: Callable[[str], Rows]) -> list[Curve]:
    """Average the metrics of the table's runs over seeds, along the unit of its view's budget."""
    along = "sample_gradients" if table.view == "sample-gradients" else "epoch"
    rows = {row.optimizer: [rows_of(run_id) for run_id in row.runs] for row in table.rows}
    carried = {name for runs in rows.values() for run in runs for row in run for name in row}
    shown = [column for key, column in page_curves(table.described).items() if key in carried]
    return [curve for column in shown for curve in curves(rows, column, along)]


def of_table(table: Table, found: Sequence[Curve], names: Sequence[str]) -> list[Plot]:
    """Return all charts of one table: those of its rows, then its learning curves."""
    plots = [_plot(name, spec) for name, spec in charts.of_table(table, names).items()]
    for key, column in page_curves(table.described).items():
        some = [curve for curve in found if curve.column == key]
        if some:
            title = f"{column.words.capitalize()} over training: {table.task} on {table.data}"
            examples = "/".join(map(str, table.measures.get(key, ())))
            y_title = f"{column.title}, {examples} examples" if examples else column.title
            spec = charts.curve_bands(some, column, title, y_title, names)
            plot = _plot(key.replace("_", "-"), spec)
            lines = [table.heading, *plot.saved.get("subtitle", ())]
            plots.append(replace(plot, saved={**plot.saved, "subtitle": lines}))
    return plots


def _plot(name: str, spec: charts.Spec) -> Plot:
    """Take the title out of a chart: the page shows and wraps it, and names the task above."""
    rest = {key: value for key, value in spec.items() if key != "title"}
    title = spec["title"]
    lines = title.get("subtitle", ())
    return Plot(
        name, title["text"].partition(":")[0], "; ".join(lines[1:] or lines), spec["description"], rest, title
    )


def numbers(table: Table, found: Sequence[Curve]) -> list[CurveTable]:
    """Reduce the curves to a readable table: the last point and about ten before it."""
    tables = []
    for key, column in page_curves(table.described).items():
        some = [curve for curve in found if curve.column == key]
        places = sorted({x for curve in some for x in curve.x})
        if not places:
            continue
        step = -(-len(places) // _MOST_POINTS)
        chosen = sorted({*places[::-1][::step], places[0]})
        means = [
            {x: column.plain(mean) for x, mean in zip(curve.x, curve.mean, strict=True)} for curve in some
        ]
        lines = tuple((x, tuple(mean.get(x) for mean in means)) for x in chosen)
        names = tuple(curve.optimizer for curve in some)
        tables.append(CurveTable(column.title, AXES[some[0].along], names, lines))
    return tables


def for_page(plot: Plot) -> charts.Spec:
    """Return a chart whose width the page sets; its colours come from `themes`."""
    # The page's library is newer than that of the figures and would warn about the schema at every chart.
    spec = {key: value for key, value in plot.spec.items() if key != "$schema"}
    return spec | {"usermeta": {"saved": plot.saved}, "autosize": {"type": "fit-x", "contains": "padding"}}


def themes() -> dict[str, Any]:
    """Return the Vega-Lite config of both themes."""
    looks = {name: charts.themed({}, dark=name == "dark")["config"] for name in ("light", "dark")}
    return {name: look | {"legend": look["legend"] | {"titleLimit": 400}} for name, look in looks.items()}


def kind(task: Description) -> str:
    """Return an id shared by tasks with the same columns, whose runs have the same charts."""
    content = msgspec.json.encode((task.metrics, task.validation, task.columns, task.profiles))
    return sha256_text(content.decode())[:8]


def of_runs(tasks: Iterable[Description]) -> dict[str, list[dict[str, Any]]]:
    """Return the charts of one run and of two, by kind, without data; the page inserts those of its runs."""
    return {kind(task): _of_kind(task) for task in tasks}


def _of_kind(task: Description) -> list[dict[str, Any]]:
    out = [_run_chart(title, columns) for title, columns in curve_groups(task).items()]
    for profile in task.profiles:
        words = profile.name.replace("_", " ")
        column = RowColumn(profile.name, profile.metric.name.replace("_", " "), profile.metric)
        out.append(_run_chart(words, (column,), text.plain(profile.along)) | {"profile": profile.name})
    return out


def _run_chart(words: str, columns: Sequence[RowColumn], along: str = "") -> dict[str, Any]:
    title = words[:1].upper() + words[1:]
    first = columns[0]
    y_title = first.title if len(columns) == 1 else ", ".join(filter(None, (words, first.unit)))
    log = first.metric.scale == "log"
    row: dict[str, Any] = {"epoch": 1.0} | {column.key: 0.5 for column in columns}
    found = {}
    for labels in (("",), ("A", "B")):
        spec = charts.run_curves({label: [row] for label in labels}, columns, title, x_title=along)
        page = for_page(_plot(title, spec))
        for layer in page["layer"]:  # the legend already names the columns
            shown = f"{y_title} (log scale)" if log else y_title
            layer["encoding"]["y"] = {**layer["encoding"]["y"], "title": shown}
        if len(labels) > 1:
            _by_run(page["layer"], labels, [column.title for column in columns])
        found[str(len(labels))] = {**page, "data": {"values": []}}
    factor = 100 if first.unit == PERCENT else 1
    return {
        "title": title,
        "log": log,
        "floor": first.metric.floor,
        "factor": factor,
        "columns": {column.key: column.title for column in columns},
        "specs": found,
    }


def _by_run(layers: Sequence[charts.Spec], labels: Sequence[str], columns: Sequence[str]) -> None:
    """Distinguish runs by colour and symbol, and columns by dash."""
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
    """Write data as a script for a page: pages opened from disk can load only scripts."""
    content = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"(window.steppe = window.steppe || {{}}).{name} = {content};\n"
