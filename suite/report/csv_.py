"""A leaderboard as CSV: one line for each row of each table, accuracies as fractions."""

from __future__ import annotations

import csv
import io
from typing import Any

from suite.report.leaderboard import Leaderboard, Row, Table
from suite.report.markdown import UNTUNED
from suite.report.text import WORDS, spreadsheet
from suite.stats import Interval


def render(board: Leaderboard) -> str:
    """Write the tables; names that a spreadsheet would read as a formula start with an apostrophe."""
    names = sorted({name for table in board.tables for name in table.measures})
    lines = [_cells(table, row, names) for table in board.tables for row in table.rows]
    empty = list(_HEAD)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(lines[0]) if lines else empty, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: spreadsheet(x) if isinstance(x, str) else x for key, x in line.items()})
    return out.getvalue()


_HEAD = ("protocol", "track", "task", "data", "tier", "precision", "device", "compiled", "ranks", "view",
         "budget", "budget_s", "optimizer", "epochs")  # fmt: skip


def _cells(table: Table, row: Row, names: list[str]) -> dict[str, Any]:
    head = (table.protocol, UNTUNED, table.task, table.data, table.tier, table.precision, table.device,
            table.compiled, table.ranks, table.view, table.budget, table.seconds, row.optimizer,
            row.epochs)  # fmt: skip
    verdict = row.verdict
    cells: dict[str, Any] = dict(zip(_HEAD, head, strict=True))
    cells |= {"n": row.n, "failed": row.failed}
    for name in ("test_accuracy", "validation_accuracy", "test_accuracy_as_trained"):
        cells |= _interval(name, getattr(row, name))
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
        "fingerprint": row.fingerprint,
    }
    cells |= _interval("train_loss_on_subset", row.train_loss)
    for name in names:
        found = row.measures.get(name)
        cells[f"{name}_examples"] = "/".join(map(str, table.measures.get(name, ())))
        cells[f"{name}_n"] = found.over_seeds.n if found else 0
        cells |= _interval(name, found.over_seeds if found else None)
        cells[f"{name}_se_probes"] = found.se_probes if found else None
        cells[f"{name}_se_examples"] = found.se_examples if found else None
    return cells


def _interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    mean, low, high = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
    return {f"{name}_mean": mean, f"{name}_low": low, f"{name}_high": high}
