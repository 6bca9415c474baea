"""What every chart of a table's rows has: their data, the tooltip, the heading and the summary in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from suite.report import text
from suite.report.charts.scales import Looks, join
from suite.report.charts.theme import SCHEMA, WIDTH, Spec
from suite.report.columns import Column
from suite.report.leaderboard import Table
from suite.report.notes import seeds
from suite.report.rows import Row

HEIGHT = 340


def values_of(row: Row, looks: Looks, labels: dict[str, str], column: Column) -> dict[str, Any]:
    """What the charts show of a row: the result in `column` with its interval."""
    label, found = labels[row.optimizer], row.values.get(column.key)
    word = f"failed runs, {row.failed} of {row.n}" if row.failed else text.WORDS[row.verdict.word]
    mean = column.with_unit(column.interval(found)) if found else "no completed run"
    ends = (found.mean, found.low, found.high) if found else (None, None, None)
    at, low, high = (None if end is None else shorten(column.plain(end)) for end in ends)
    return {
        "optimizer": label,
        "entry": looks.label(row.entry),
        "mean": at,
        "low": low,
        "high": high,
        "interval": column.ends(found),
        "seeds": row.n,
        "losses": row.failed,
        "failed": f"{row.failed} of {row.n}",
        "verdict": text.WORDS[row.verdict.word],
        "comparison": column.verdict(row.verdict),
        "note": f"{column.value(found.mean)} · {word}" if found else word,
        "cost": f"{row.cost:.2f}x, {row.sample_gradients:,.0f} sample-gradients",
        "seconds": "-" if row.train_s is None else f"{text.seconds(row.train_s)} s",
        "told": f"{label}: {mean}, {column.verdict(row.verdict)}",
    }


def shorten(value: float) -> float:
    """Drop the digits that only floating point makes."""
    return round(value, 6) if abs(value) >= 0.01 else float(f"{value:.6g}")


def tooltip(column: Column) -> list[Spec]:
    """Show the exact numbers of a row."""
    fields = {"optimizer": "optimizer", "mean": column.title, "interval": "95 % interval", "seeds": "runs",
              "failed": "failed", "comparison": "comparison", "cost": "cost", "seconds": "train"}  # fmt: skip
    form = ".2f" if column.percent else ".4g"
    return [
        {"field": field, "title": title, **({"format": form} if field == "mean" else {})}
        for field, title in fields.items()
    ]


def chart(
    table: Table,
    title: str,
    shown: str,
    values: list[dict[str, Any]],
    layers: Sequence[Spec],
    extra: Sequence[str] = (),
    *,
    height: int = HEIGHT,
) -> Spec:
    """Put layers under the heading of their table; `shown` and `extra` tell how to read them."""
    where = f"{text.plain(table.task)} on {text.plain(table.data)}"
    conditions = f"{text.plain(table.precision)} on {text.plain(table.device)}"
    heading = f"{table.heading} ({text.UNTUNED})"
    few = "no interval from one run" if any(row.n == 1 for row in table.rows) else ""
    subtitle = [join([heading, seeds(table), conditions, few]), shown, *extra]
    if not values:
        subtitle.append("nothing to show: no row has these numbers")
    return {
        "$schema": SCHEMA,
        "title": {"text": f"{title}: {where}", "subtitle": subtitle},
        "description": _summary(f"{title}, {where}, {heading}, {seeds(table)}", values, table.score),
        "width": WIDTH,
        "height": height,
        "data": {"values": values},
        "layer": list(layers),
    }


def _summary(head: str, values: list[dict[str, Any]], column: Column) -> str:
    """Say in words what the chart shows, for those who do not see it."""
    lower = column.metric.better == "lower"
    known = (value for value in values if value["mean"] is not None)
    ranked = sorted(known, key=lambda value: value["mean"], reverse=lower)
    count = f"{len(values)} {text.plural(len(values), 'row')}"
    if not ranked:
        return f"{head}: {count}, none with a completed run."
    best, worst = ("lowest", "highest") if lower else ("highest", "lowest")
    ends = f"{best} mean: {ranked[-1]['told']}"
    if len(ranked) > 1:
        ends += f"; {worst}: {ranked[0]['told']}"
    return f"{head}: {count}; {ends}."
