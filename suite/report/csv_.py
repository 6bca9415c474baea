"""A leaderboard as CSV: one line per row of each table, percentages as fractions."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from suite.report.leaderboard import Leaderboard, Table
from suite.report.rows import Row
from suite.report.stats import Interval
from suite.report.text import UNTUNED, WORDS, spreadsheet


def render(board: Leaderboard) -> str:
    """Write the tables; an apostrophe precedes names that a spreadsheet would read as a formula."""
    out = io.StringIO()
    lines = _lines(board)
    writer = csv.DictWriter(out, fieldnames=list(lines[0]) if lines else list(_HEAD), lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: spreadsheet(x) if isinstance(x, str) else x for key, x in line.items()})
    return out.getvalue()


def table(board: Leaderboard) -> tuple[list[str], list[list[float | str | None]]]:
    """Return columns and rows as data: numbers as floats, other values as text, None for empty cells."""
    lines = _lines(board)
    return list(lines[0]) if lines else list(_HEAD), [list(map(_datum, line.values())) for line in lines]


def _datum(value: object) -> float | str | None:
    if value is None or value == "":
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else str(value)  # type: ignore[arg-type]


def _lines(board: Leaderboard) -> list[dict[str, Any]]:
    names = sorted({name for table in board.tables for name in table.measures})
    keys = tuple(dict.fromkeys(column.key for table in board.tables for column in table.columns))
    return [_cells(table, row, names, keys) for table in board.tables for row in table.rows]


_HEAD = ("protocol", "engine", "track", "task", "data", "tier", "precision", "device", "compiled", "ranks",
         "view", "budget", "budget_s", "compared_by", "scale", "better", "margin", "optimizer",
         "epochs")  # fmt: skip


def _cells(table: Table, row: Row, names: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    metric = table.score.metric
    head = (
        *(table.protocol, table.engine, UNTUNED, table.task, table.data, table.tier, table.precision),
        *(table.device, table.compiled, table.ranks, table.view, table.budget, table.seconds),
        *(table.score.key, metric.scale, metric.better, metric.margin, row.optimizer, row.epochs),
    )
    verdict = row.verdict
    cells: dict[str, Any] = dict(zip(_HEAD, head, strict=True))
    cells |= {"n": row.n, "failed": row.failed}
    known = {column.key: column for column in table.columns}
    for key in keys:
        found = row.values.get(key) if key in known else None
        cells |= _interval(key, found, known[key].unscaled if key in known else float)
    cells |= {
        "verdict": WORDS[verdict.word],
        "in_best_set": verdict.best_set,
        "difference_to_best": verdict.difference,
        "p_holm": verdict.p,
        "equivalent": verdict.equivalent,
        "detectable_difference": verdict.detectable,
        "sample_gradients": row.sample_gradients,
        "cost": row.cost,
        "train_s_median": row.train_s,
        "fingerprint": " | ".join(row.fingerprints),
    }
    cells |= _interval("train_loss_on_subset", row.train_loss)
    for name in names:
        measured = row.measures.get(name)
        cells[f"{name}_examples"] = "/".join(map(str, table.measures.get(name, ())))
        cells[f"{name}_n"] = measured.over_seeds.n if measured else 0
        cells |= _interval(name, measured.over_seeds if measured else None)
        cells[f"{name}_se_probes"] = measured.se_probes if measured else None
        cells[f"{name}_se_examples"] = measured.se_examples if measured else None
    return cells


def _interval(
    name: str, interval: Interval | None, unscaled: Callable[[float], float] = float
) -> dict[str, float | None]:
    """Return mean and bounds as values; on a log scale the mean is geometric."""
    ends = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
    mean, low, high = (None if end is None else unscaled(end) for end in ends)
    return {f"{name}_mean": mean, f"{name}_low": low, f"{name}_high": high}
