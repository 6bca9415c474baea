r"""A leaderboard as LaTeX: booktabs tables for a paper to `\input`.

The preamble needs `\usepackage{booktabs,graphicx}`. Characters that pdflatex may be unable to set are written
as code points, `U+03C3`; long names are cut in the middle, as the CSV contains them in full.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from suite.report import notes, text
from suite.report.leaderboard import Leaderboard, Table

_LONGEST = 60
"""Characters of a name in a table."""

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # at the start of a row, these would be read as an argument of `\\`
    "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$",
}  # fmt: skip


def escape(name: str) -> str:
    """Escape text so that LaTeX sets it literally."""
    return "".join(map(_character, text.plain(name))).replace("--", "-{}-{}")


def _character(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    accented = "À" <= c <= "ÿ" and unicodedata.decomposition(c)
    return c if c.isascii() or accented else rf"\texttt{{U+{ord(c):04X}}}"


def render(board: Leaderboard) -> str:
    """Write the tables; the same leaderboard gives the same text, byte for byte."""
    return "\n".join(_lines(board)) + "\n"


def _lines(board: Leaderboard) -> Iterator[str]:
    yield f"% Made by: {text.plain(board.command)}"
    yield r"% Needs: \usepackage{booktabs,graphicx}"
    for table in board.tables:
        labels = text.distinct((row.optimizer for row in table.rows), _LONGEST)
        yield ""
        yield from _results(table, labels)
        if any(row.train_loss for row in table.rows):
            yield ""
            yield from _sharpness(table, labels)
    if not board.tables:
        yield "% No records to show."
    yield from (f"% {text.plain(sentence)}" for sentence in board.left_out)


def _results(table: Table, labels: dict[str, str]) -> Iterator[str]:
    header = ["optimizer", "$n$", "failed", *(escape(column.title) for column in table.columns), "cost",
              "train, s", "verdict"]  # fmt: skip
    rows = [
        [
            escape(labels[row.optimizer]),
            str(row.n),
            f"{row.failed} of {row.n}",
            *(_number(column.interval(row.values.get(column.key))) for column in table.columns),
            rf"{row.cost:.2f}$\times$",
            _number(notes.train_seconds(row, table)),
            escape(table.score.verdict(row.verdict)),
        ]
        for row in table.rows
    ]
    said = [
        "Mean and 95 % t interval over seeds; means are over completed runs",
        f"{notes.seeds(table)}; {table.tier} tier, budget {table.epochs:g} epochs; {table.precision} on "
        f"{table.device}{notes.of_execution(table)}; protocol {table.protocol}, engine {table.engine}",
        "Cost in sample-gradients, 1x being one gradient an example over the task's budget",
        "The verdict compares with the best mean, paired by seed, with Holm's correction",
    ]
    sentences = [*notes.of_comparison(table), *notes.of_results(table), *notes.of_machines(table)]
    yield from _float(table, said, sentences, header, rows, f"l{'r' * (len(header) - 2)}l")


def _sharpness(table: Table, labels: dict[str, str]) -> Iterator[str]:
    header = ["optimizer", "subset loss"]
    for name, counts in table.measures.items():
        header += [f"{escape(name)}@{'/'.join(map(str, counts))}", "est. error"]
    rows = []
    for row in table.rows:
        cells = [escape(labels[row.optimizer]), _number(text.measured(row.train_loss))]
        for mean, *errors in notes.measure_cells(row, table):
            cells += [_number(mean), " / ".join(map(_number, errors))]
        rows.append(cells)
    said = ["Training loss and sharpness measures, mean and 95 % t interval over seeds", notes.seeds(table)]
    yield from _float(
        table, said, list(notes.of_measures(table)), header, rows, "l" + "r" * (len(header) - 1)
    )


def _float(
    table: Table,
    said: Sequence[str],
    sentences: Sequence[str],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: str,
) -> Iterator[str]:
    """Lay out one table, no wider than a line; `said` are sentences without full stops."""
    where = f"{table.task} on {table.data}: {table.heading} ({text.UNTUNED})"
    caption = " ".join([*(f"{sentence}." for sentence in (where, *said)), *sentences])
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{escape(caption)}}}"
    yield r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    yield rf"\begin{{tabular}}{{{columns}}}"
    yield r"\toprule"
    yield rf"{' & '.join(header)} \\"
    yield r"\midrule"
    yield from (rf"{' & '.join(cells)} \\" for cells in rows)
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    yield r"\end{table}"


def _number(shown: str) -> str:
    """Convert a number of the other reports to LaTeX: sign, exponent and interval."""
    if shown == "-":
        return "--"
    shown = re.sub(r"e([+-])0*(\d+)", lambda m: rf"$\times10^{{{m[1].strip('+')}{m[2]}}}$", shown)
    return (
        re.sub(r"^-", "$-$", shown)
        .replace(" ± ", r" $\pm$ ")
        .replace(" ×/÷ ", r" $\times$/$\div$ ")
        .replace("[", "{[}")
    )
