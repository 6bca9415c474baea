"""What the reader of a table must know, in plain sentences; each format escapes them in its own way."""

from __future__ import annotations

from collections.abc import Iterator

from suite.report.leaderboard import Row, Table
from suite.report.views import NEAR


def of_execution(table: Table) -> str:
    """Say, where it is not as usual, how the runs were executed: to be added to the name of the device."""
    compiled = ", compiled" if table.compiled else ""
    return compiled + (f", {table.ranks} ranks" if table.ranks > 1 else "")


def of_comparison(table: Table) -> Iterator[str]:
    """Say which rows are compared and what the comparison is worth."""
    if table.seconds is not None:
        yield (
            f"Its rows have a median training time within {100 * NEAR:g} % of {table.seconds:.3g} s: "
            f"{table.budget:g}x the fastest row of one gradient a step at {table.epochs:g} epochs, on one "
            f"hardware and software. A label tells epochs other than {table.budget * table.epochs:g}. "
            f"Seconds compare only where the machine was otherwise idle, which no record shows."
        )
    if any(row.verdict.word == "undecided" for row in table.rows):
        yield (
            f"Undecided rows are descriptive only, without tests: the {table.tier} tier asks for "
            f"{table.minimum_seeds} completed seeds, the same as the best row's."
        )
    if table.correlation is not None:
        yield f"Pairing by seed: test accuracies of two rows correlate by {table.correlation:.2f} on average."


def of_measures(table: Table) -> Iterator[str]:
    """Say what the measures are taken on and how they compare."""
    if table.measures:
        yield (
            'Measures at n training examples ("@n"), with the training loss on the same ones; "est. error" '
            "is the error of one run's estimate over probes (of lambda_max: the residual) / over examples. "
            "No row is ranked by a measure, which its method may minimise."
        )
    for row in table.rows:
        completed = row.n - row.failed
        for name, found in row.measures.items():
            if found.over_seeds.n < completed:
                yield (
                    f"{row.optimizer}: {name} is over {found.over_seeds.n} of {completed} completed runs; "
                    f"the others gave no finite number."
                )
    if table.matched_loss is not None:
        matched = "at matched" if table.matched_loss else "not at matched"
        yield f"Rows are {matched} training loss, on which curvature depends."


def of_seconds(table: Table) -> Iterator[str]:
    """Say where the seconds were taken, with the letters of `train_seconds`."""
    if len(table.fingerprints) > 1:
        yield "Seconds compare only within one machine and software:"
        for index, name in enumerate(table.fingerprints):
            yield f"[{_letter(index)}] {name}"
    elif table.fingerprints:
        yield f"Seconds are the median over runs on {table.fingerprints[0]}."


def train_seconds(row: Row, table: Table) -> str:
    """Show a row's seconds, with the letter of its machine where there are several."""
    if row.train_s is None:
        return "-"
    mark = f" [{_letter(table.fingerprints.index(row.fingerprint))}]" if len(table.fingerprints) > 1 else ""
    return f"{row.train_s:.1f}{mark}"


def seeds(table: Table) -> str:
    """Say how many seeds the rows have."""
    counts = sorted({row.n for row in table.rows}) or [0]
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    return f"{n} seed{'' if counts[-1] == 1 else 's'}"


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26) + (str(index // 26) if index >= 26 else "")
