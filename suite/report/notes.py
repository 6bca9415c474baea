"""Notes on a table as plain sentences, which each format escapes itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from suite.metric import PERCENT
from suite.report import text
from suite.report.columns import Column
from suite.report.leaderboard import Table
from suite.report.rows import Row
from suite.report.verdicts import Word
from suite.report.views import NEAR
from suite.terminal.table import plural


def of_execution(table: Table) -> str:
    """Describe compiled and multi-rank execution, to append to the name of the device; else empty."""
    compiled = ", compiled" if table.compiled else ""
    return compiled + (f", {table.ranks} ranks" if table.ranks > 1 else "")


def of_table(table: Table) -> Iterator[str]:
    """Yield all notes on a table."""
    yield from of_comparison(table)
    yield from of_results(table)
    yield from of_measures(table)
    yield from of_machines(table)


def of_comparison(table: Table) -> Iterator[str]:
    """Describe the metric, the margin and the limits of the comparison."""
    if table.seconds is not None:
        yield (
            f"Its rows have a median training time within {100 * NEAR:g} % of {table.seconds:.3g} s: "
            f"{table.budget:g}x the fastest row of one gradient a step at {table.epochs:g} epochs, on one "
            f"hardware and software. A label tells epochs other than {table.budget * table.epochs:g}. "
            f"Seconds compare only where the machine was otherwise idle, which no record shows."
        )
    metric, words = table.score.metric, table.score.words
    if metric.margin is None:
        margin = "no margin is declared for it, so that no tie is claimed"
    elif metric.scale == "linear" and metric.unit == PERCENT:
        points = 100 * metric.margin
        margin = f"differences within {points:g} {plural(points, 'point')} are a tie"
    else:
        unit = " decades" if metric.scale == "log" else f" {metric.unit}".rstrip()
        margin = f"differences within {metric.margin:g}{unit} are a tie"
    yield f"Rows are compared by {words}: {metric.better} is better; {margin}."
    if any(row.verdict.word is Word.UNDECIDED for row in table.rows):
        yield (
            f"Undecided rows are descriptive only, without tests: the {table.tier} tier asks for "
            f"{table.minimum_seeds} completed seeds, the same as the best row's."
        )
    if table.correlation is not None:
        yield f"Pairing by seed: the {words} of two rows correlates by {table.correlation:.2f} on average."


def of_results(table: Table) -> Iterator[str]:
    """Describe log scales, missing and floored results, and which results can be recounted."""
    logs = [column.words for column in table.columns if column.metric.scale == "log"]
    if logs:
        yield (
            f"On a log scale, with geometric means, the factor of their interval, and differences in "
            f"decades: {', '.join(logs)}."
        )
    for column in table.columns:
        words = column.words[:1].upper() + column.words[1:]
        if some := in_rows((row, _without(row, column)) for row in table.rows):
            yield f"{words} is no finite number in {some}; means are over the others."
        if some := in_rows((row, row.floored.get(column.key, 0)) for row in table.rows):
            yield (
                f"{words} is at most {column.metric.floor:g}, the smallest value that it resolves, in "
                f"{some}, and counts as that."
            )
    recounted = [column.words for column in table.columns if column.key in table.evidence]
    if recounted:
        yield (
            f"Can be recounted from the stored correctness of single examples: {', '.join(recounted)}. "
            f"All else is as the records claim it."
        )
    else:
        yield "No result can be recounted from stored examples: all is as the records claim it."


def of_measures(table: Table) -> Iterator[str]:
    """Describe the examples of the measures and how far the measures are comparable."""
    if table.measures:
        yield (
            'Measures at n training examples ("@n"); "subset loss" is the training loss on the same ones, '
            '"est. error" the error of one run\'s estimate over probes (of lambda_max: the residual) / over '
            "examples. No row is ranked by a measure, which its method may minimise."
        )
    for name in table.outdated:
        yield (
            f"{name} comes from several versions of its estimator, which share no column: "
            f"`steppe measure RUN -m {name} --write` brings a run to the newest one."
        )
    for name in table.measures:
        if some := in_rows((row, row.unmeasured.get(name, 0)) for row in table.rows):
            yield f"{name} has no value in {some}; means are over the others."
    if table.matched_loss is not None:
        matched = "at matched" if table.matched_loss else "not at matched"
        yield f"Rows are {matched} training loss, on which curvature depends."


def _without(row: Row, column: Column) -> int:
    """Count the completed runs of a row without a finite value in a column."""
    return row.n - row.failed - (row.values[column.key].n if column.key in row.values else 0)


def in_rows(found: Iterable[tuple[Row, int]]) -> str:
    """Write counts of completed runs by row, `2 of 10 runs of sgd`; rows with a count of 0 are left out."""
    return ", ".join(f"{n} of {row.n - row.failed} runs of {row.optimizer}" for row, n in found if n)


def of_machines(table: Table) -> Iterator[str]:
    """List the machines of the runs, with the letters of `train_seconds`."""
    if len(table.fingerprints) > 1:
        yield (
            "The runs come from several machines or versions of software. The same spec gives other bytes on "
            "another, and seconds compare only within one:"
        )
        for index, name in enumerate(table.fingerprints):
            yield f"[{_letter(index)}] {name}"
        mixed = [row for row in table.rows if len(row.fingerprints) > 1]
        if mixed:
            rows = ", ".join(f"{row.optimizer} {_letters(row, table)}" for row in mixed)
            yield f"These rows mix them, in results as in seconds: {rows}."
    elif table.fingerprints:
        yield f"Seconds are the median over runs on {table.fingerprints[0]}."
    if table.moved:
        yield (
            f"{table.moved} {plural(table.moved, 'run')} went from one machine or version of software "
            f"to another while training: none of them can be repeated bit for bit."
        )
    if table.digests > 1:
        yield (
            f"The generated data come in {table.digests} versions, which differ in the last digits as "
            f"machines do."
        )


def measure_cells(row: Row, table: Table) -> Iterator[tuple[str, str, str]]:
    """Yield mean, error over probes and error over examples of each measure of the table."""
    for found in map(row.measures.get, table.measures):
        errors = (found.se_probes, found.se_examples) if found else (None, None)
        mean = text.measured(found.over_seeds if found else None)
        yield mean, text.number(errors[0], 2), text.number(errors[1], 2)


def _letters(row: Row, table: Table) -> str:
    return f"[{', '.join(_letter(table.fingerprints.index(name)) for name in row.fingerprints)}]"


def train_seconds(row: Row, table: Table) -> str:
    """Write a row's seconds, with the letter of its machine if there are several."""
    if row.train_s is None or not row.fingerprint:
        return "-"
    mark = f" [{_letter(table.fingerprints.index(row.fingerprint))}]" if len(table.fingerprints) > 1 else ""
    return f"{text.seconds(row.train_s)}{mark}"


def seeds(table: Table) -> str:
    """Write the number of seeds per row."""
    counts = [row.n for row in table.rows]
    return f"{text.runs(counts)} {plural(max(counts, default=0), 'seed')}"


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26) + (str(index // 26) if index >= 26 else "")
