"""A leaderboard as Markdown that is also readable as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from suite.report import notes, text
from suite.report.leaderboard import Leaderboard, Table

INTRODUCTION = """\
Every optimizer runs at one setting of its hyperparameters that was not tuned for the task, so no table is a
ranking: rows are sorted by name and none is set in bold. ± is the 95 % t interval over seeds (×/÷ on a log
scale). Means are over completed runs. BatchNorm statistics are re-estimated at the final weights; a column
*as trained* is the result with those that training left. Cost counts sample-gradients, one example through
one forward and backward pass; 1x is one gradient an example over the task's budget. The word in the last
column compares with the best mean over the seeds that all rows have, paired by seed, with Holm's correction:
*best set* is that row; *tie*, equivalent to it within the table's margin; *worse*, significantly worse;
*unresolved*, neither was shown, with the difference that this many seeds would have found 4 times in 5;
*undecided*, too few seeds for any test; *failed runs*, which keep a row out of the best set."""


def render(board: Leaderboard) -> str:
    """Write the report; the same leaderboard gives the same text, byte for byte."""
    return "\n".join(_lines(board)) + "\n"


def _lines(board: Leaderboard) -> Iterator[str]:
    yield "# Leaderboard"
    yield ""
    yield from INTRODUCTION.split("\n")
    if not board.tables:
        yield ""
        yield "No records to show."
    for table in board.tables:
        yield ""
        yield from _table(table)
    if board.left_out:
        yield ""
        yield from (f"- {text.markdown(sentence)}" for sentence in board.left_out)
    command = text.plain(board.command)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    yield from ("", "This page is made by", "", f"{fence}sh", command, fence)


def _table(table: Table) -> Iterator[str]:
    where = f"{text.markdown(table.task)} on {text.markdown(table.data)}"
    yield f"## {where}: {table.heading} ({text.UNTUNED})"
    yield ""
    yield (
        f"{notes.seeds(table)}; {table.tier} tier, budget {table.epochs:g} epochs; "
        f"{text.markdown(table.precision)} on {text.markdown(table.device)}{notes.of_execution(table)}; "
        f"protocol {text.markdown(table.protocol)}, engine {table.engine}."
    )
    yield ""
    yield from _results(table)
    if any(row.train_loss for row in table.rows):
        yield ""
        yield from _sharpness(table)
    sentences = list(notes.of_table(table))
    if sentences:
        yield ""
        yield from (f"- {text.markdown(sentence)}" for sentence in sentences)


def _results(table: Table) -> list[str]:
    header = ["optimizer", "n", "failed", *(text.markdown(column.title) for column in table.columns), "cost",
              "sample-gradients", "train s", "verdict"]  # fmt: skip
    rows = [
        [
            text.markdown(row.optimizer),
            str(row.n),
            f"{row.failed} of {row.n}",
            *(column.interval(row.values.get(column.key)) for column in table.columns),
            f"{row.cost:.2f}x",
            f"{row.sample_gradients:,.0f}",
            notes.train_seconds(row, table),
            table.score.verdict(row.verdict),
        ]
        for row in table.rows
    ]
    return text.grid(header, rows, [False, *[True] * (len(header) - 2), False])


def _sharpness(table: Table) -> list[str]:
    names = {name: "/".join(map(str, counts)) for name, counts in table.measures.items()}
    header = ["optimizer", "subset loss"]
    header += [part for name, n in names.items() for part in (f"{text.markdown(name)}@{n}", "est. error")]
    rows = []
    for row in table.rows:
        cells = [text.markdown(row.optimizer), text.measured(row.train_loss)]
        for mean, *errors in notes.measure_cells(row, table):
            cells += [mean, " / ".join(errors)]
        rows.append(cells)
    return text.grid(header, rows, [False, *[True] * (1 + 2 * len(names))])
