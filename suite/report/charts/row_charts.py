"""Parts shared by charts of a table's rows: data, tooltip, heading and text summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from suite.report import text
from suite.report.charts.scales import HEIGHT, Looks, axis, chart, join, layer
from suite.report.charts.theme import Spec
from suite.report.leaderboard import Table
from suite.report.notes import seeds
from suite.report.rows import Row
from suite.terminal.table import plural

DONE = "isValid(datum.mean)"
"""Vega expression that is true for a row with a completed run."""


class Rows:
    """The rows of a table in one chart, with the scores that they are compared by."""

    def __init__(self, table: Table, rows: Sequence[Row], names: Sequence[str]) -> None:
        """Assign looks to the rows; `names` are the entries of the whole report."""
        self.table, self.rows, self.column = table, rows, table.score
        self.looks = Looks(names, (row.entry for row in rows))
        self.labels = text.distinct(row.optimizer for row in rows)

    def value(self, row: Row) -> dict[str, Any]:
        """Return the data of a row: its score with interval, and the texts of tooltip and labels."""
        column, label, found = self.column, self.labels[row.optimizer], row.values.get(self.column.key)
        verdict = text.WORDS[row.verdict.word]
        word = f"{verdict}, {row.failed} of {row.n}" if row.failed else verdict
        mean = column.with_unit(column.interval(found)) if found else "no completed run"
        ends = (found.mean, found.low, found.high) if found else (None, None, None)
        at, low, high = (None if end is None else shorten(column.plain(end)) for end in ends)
        return {
            "optimizer": label,
            "entry": self.looks.label(row.entry),
            "mean": at,
            "low": low,
            "high": high,
            "interval": column.ends(found),
            "seeds": row.n,
            "losses": row.failed,
            "failed": f"{row.failed} of {row.n}",
            "verdict": verdict,
            "comparison": column.verdict(row.verdict),
            "note": f"{column.value(found.mean)} · {word}" if found else word,
            "cost": f"{row.cost:.2f}x, {row.sample_gradients:,.0f} sample-gradients",
            "seconds": "-" if row.train_s is None else f"{text.seconds(row.train_s)} s",
            "told": f"{label}: {mean}, {column.verdict(row.verdict)}",
        }

    def scale(self, values: Sequence[dict[str, Any]]) -> Spec:
        """Return scale and axis of the scores."""
        ends = [value[field] for value in values for field in ("mean", "low", "high")]
        return axis(self.column.title, ends, scale=self.column.metric.scale)

    def tooltip(self) -> list[Spec]:
        """Return the tooltip with the exact numbers of a row."""
        fields = {"optimizer": "optimizer", "mean": self.column.title, "interval": "95 % interval",
                  "seeds": "runs", "failed": "failed", "comparison": "comparison", "cost": "cost",
                  "seconds": "train"}  # fmt: skip
        form = {"format": ".2f" if self.column.percent else ".4g"}
        return [{"field": field, "title": title, **(form if field == "mean" else {})}
                for field, title in fields.items()]  # fmt: skip

    def lost(self, where: Spec, said: Spec, dy: int, side: str = "left") -> list[Spec]:
        """Mark rows without a completed run by a cross and words, on the edge of the worst scores."""
        dx = 12 if side == "left" else -12
        cross = {**where, "tooltip": self.tooltip(), "description": {"field": "told"}}
        words = {**where, "text": said}
        return [
            layer("point", cross, where=f"!{DONE}", style="failed"),
            layer("text", words, where=f"!{DONE}", align=side, dx=dx, dy=dy, aria=False),
        ]

    def chart(
        self,
        against: str,
        shown: str,
        values: list[dict[str, Any]],
        layers: Sequence[Spec],
        *extra: str,
        height: int = HEIGHT,
    ) -> Spec:
        """Combine layers with the heading of their table; `shown` and `extra` explain how to read them."""
        table, title = self.table, text.plain(self.column.words).capitalize()
        title += f" against {against}" if against else ""
        where = f"{text.plain(table.task)} on {text.plain(table.data)}"
        conditions = f"{text.plain(table.precision)} on {text.plain(table.device)}"
        heading = f"{table.heading} ({text.UNTUNED})"
        few = "no interval from one run" if any(row.n == 1 for row in table.rows) else ""
        subtitle = [join([heading, seeds(table), conditions, few]), shown, *filter(None, extra)]
        spoken = self._summary(f"{title}, {where}, {heading}, {seeds(table)}", values)
        return chart(f"{title}: {where}", subtitle, spoken, values, layers, "row", height)

    def _summary(self, head: str, values: Sequence[dict[str, Any]]) -> str:
        """Summarize the chart in words, for screen readers."""
        lower = self.column.metric.better == "lower"
        known = (value for value in values if value["mean"] is not None)
        ranked = sorted(known, key=lambda value: value["mean"], reverse=lower)
        count = f"{len(values)} {plural(len(values), 'row')}"
        if not ranked:
            return f"{head}: {count}, none with a completed run."
        best, worst = ("lowest", "highest") if lower else ("highest", "lowest")
        ends = f"{best} mean: {ranked[-1]['told']}"
        if len(ranked) > 1:
            ends += f"; {worst}: {ranked[0]['told']}"
        return f"{head}: {count}; {ends}."


def shorten(value: float) -> float:
    """Round off digits of floating-point error."""
    return round(value, 6) if abs(value) >= 0.01 else float(f"{value:.6g}")
