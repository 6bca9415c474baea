"""What every chart of a table's rows has: their data, the tooltip, the heading and the summary in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from suite.report import text
from suite.report.charts.scales import Looks, join
from suite.report.charts.theme import SCHEMA, WIDTH, Spec
from suite.report.leaderboard import Row, Table
from suite.report.markdown import UNTUNED, VIEW_TITLES
from suite.report.notes import seeds
from suite.stats import Interval

ACCURACY = "test accuracy, %"

HEIGHT = 340


def values_of(row: Row, looks: Looks, labels: dict[str, str]) -> dict[str, Any]:
    """What the charts show of a row, accuracies in percent."""
    label, found = labels[row.optimizer], row.test_accuracy
    word = f"failed runs, {row.failed} of {row.n}" if row.failed else text.WORDS[row.verdict.word]
    mean = f"{text.percent(found)} %" if found else "no completed run"
    return {
        "optimizer": label,
        "entry": looks.label(row.entry),
        "mean": _percent(found.mean if found else None),
        "low": _percent(found.low if found else None),
        "high": _percent(found.high if found else None),
        "interval": _between(found),
        "seeds": row.n,
        "losses": row.failed,
        "failed": f"{row.failed} of {row.n}",
        "verdict": text.WORDS[row.verdict.word],
        "comparison": text.verdict(row.verdict),
        "note": f"{100 * found.mean:.2f} · {word}" if found else word,
        "cost": f"{row.cost:.2f}x, {row.sample_gradients:,.0f} sample-gradients",
        "seconds": "-" if row.train_s is None else f"{row.train_s:.1f} s",
        "told": f"{label}: {mean}, {text.verdict(row.verdict)}",
    }


def _between(found: Interval | None) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return "none from one run"
    return f"{100 * found.low:.2f} to {100 * found.high:.2f}"


def _percent(value: float | None) -> float | None:
    return None if value is None else shorten(100 * value)


def shorten(value: float) -> float:
    """Drop the digits that only floating point makes."""
    return round(value, 6)


def tooltip() -> list[Spec]:
    """Show the exact numbers of a row."""
    fields = {"optimizer": "optimizer", "mean": ACCURACY, "interval": "95 % interval", "seeds": "runs",
              "failed": "failed", "comparison": "comparison", "cost": "cost", "seconds": "train"}  # fmt: skip
    return [
        {"field": field, "title": title, **({"format": ".2f"} if field == "mean" else {})}
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
    heading = f"{VIEW_TITLES[table.view]}, {table.budget:g}x ({UNTUNED})"
    few = "no interval from one run" if any(row.n == 1 for row in table.rows) else ""
    subtitle = [join([heading, seeds(table), conditions, few]), shown, *extra]
    if not values:
        subtitle.append("nothing to show: no row has these numbers")
    return {
        "$schema": SCHEMA,
        "title": {"text": f"{title}: {where}", "subtitle": subtitle},
        "description": _summary(f"{title}, {where}, {heading}, {seeds(table)}", values),
        "width": WIDTH,
        "height": height,
        "data": {"values": values},
        "layer": list(layers),
    }


def _summary(head: str, values: list[dict[str, Any]]) -> str:
    """Say in words what the chart shows, for those who do not see it."""
    ranked = sorted((value for value in values if value["mean"] is not None), key=lambda value: value["mean"])
    count = f"{len(values)} row{'' if len(values) == 1 else 's'}"
    if not ranked:
        return f"{head}: {count}, none with a completed run."
    ends = f"highest mean: {ranked[-1]['told']}"
    if len(ranked) > 1:
        ends += f"; lowest: {ranked[0]['told']}"
    return f"{head}: {count}; {ends}."
