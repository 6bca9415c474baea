"""Differences between the same runs on two machines or software versions: the noise floor of a comparison.

The same spec gives the same bytes on one fingerprint only. Elsewhere rounding differs, training amplifies the
difference, and the result is like that of another seed: a difference between two optimizers that is no larger
than this spread is not evidence for either.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from suite.entries.labels import entry_label
from suite.errors import SteppeError
from suite.records.schema import Record, unpack_right
from suite.report import text
from suite.report.columns import Column, columns
from suite.report.runs import entry_labels, optimizer_key, stratum
from suite.spec import Param

Pair = tuple[Record, Record]


@dataclass(frozen=True)
class Row:
    """One optimizer: its runs on both machines, by the metric that rows are compared by."""

    optimizer: str
    epochs: float
    n: int
    """Runs that completed on both machines."""
    equal: int
    """Those with bitwise equal results."""
    means: tuple[float, float]
    """On the metric's scale, by machine."""
    sd: float | None
    """Standard deviation of the paired differences; None for one pair."""
    largest: float
    """Largest absolute difference."""
    examples: float | None
    """Share of the scored split's examples that are right on only one machine; None if not stored."""
    measures: Mapping[str, float]
    """By measure, the median absolute difference relative to the first value."""


@dataclass(frozen=True)
class Spread:
    """One task under the same conditions on two fingerprints."""

    task: str
    data: str
    score: Column
    rows: tuple[Row, ...]
    fingerprints: tuple[str, str]
    left_out: tuple[str, ...]
    """Descriptions of runs that failed on only one machine, or changed machines while training."""


def spreads(
    here: Iterable[Record],
    there: Iterable[Record],
    tasks: Mapping[str, Mapping[str, Param]],
    optimizers: Mapping[str, Mapping[str, Param]],
) -> list[Spread]:
    """Pair records of the same runs; SteppeError if there are none, or for one machine or unequal code."""
    others = {record.run_id: record for record in there}
    pairs = [(record, others[record.run_id]) for record in here if record.run_id in others]
    if all(one.failed or other.failed for one, other in pairs):
        raise SteppeError("no run completed in both: give two sets of records of the same runs")
    strata: dict[tuple[bytes, str, str], list[Pair]] = defaultdict(list)
    for one, other in pairs:
        places = (_place(one), _place(other))
        if places[0] == places[1]:
            words = "equal" if one.results == other.results else "unlike"
            raise SteppeError(
                f"run {one.run_id} is from one fingerprint in both, with {words} results: {places[0]}"
            )
        mine = stratum(one)
        if (mine, one.sources) != (stratum(other), other.sources):
            raise SteppeError(
                f"run {one.run_id} is not of the same data, task and code in both: run it again in one"
            )
        strata[mine, *places].append((one, other))
    return [
        _spread(some, tasks, optimizers) for _, some in sorted(strata.items(), key=lambda item: item[0][1:])
    ]


def _place(record: Record) -> str:
    return record.provenance.origin.fingerprint


def _spread(
    pairs: Sequence[Pair],
    tasks: Mapping[str, Mapping[str, Param]],
    optimizers: Mapping[str, Mapping[str, Param]],
) -> Spread:
    first, other = pairs[0]
    score = columns(first.task, [first])[0]
    names = entry_labels({optimizer_key(one): one.spec.optimizer for one, _ in pairs}, optimizers)
    rows: dict[tuple[str, float], list[Pair]] = defaultdict(list)
    left_out = []
    for pair in pairs:
        name, spec, reason = names[optimizer_key(pair[0])], pair[0].spec, _why_not(pair)
        if reason:
            left_out.append(f"{name}, {spec.epochs:g} epochs, seed {spec.seed}: {reason}")
        elif not pair[0].failed:
            rows[name, spec.epochs].append(pair)
    task = first.spec.task
    return Spread(
        entry_label(task, tasks.get(task.name)),
        first.spec.data,
        score,
        tuple(
            _row(*key, rows[key], score) for key in sorted(rows, key=lambda key: (text.name_key(key[0]), key))
        ),
        (_place(first), _place(other)),
        tuple(sorted(left_out)),
    )


def _why_not(pair: Pair) -> str:
    """Return why two records of a run are not compared; empty if they are, or if both failed."""
    failed = [record.failed for record in pair]
    if any(failed):
        return "" if all(failed) else f"failed on [{'ab'[failed.index(True)]}] only"
    moved = [len(record.provenance.fingerprints) > 1 for record in pair]
    return f"went from one machine to another on [{'ab'[moved.index(True)]}]" if any(moved) else ""


def _row(name: str, epochs: float, pairs: Sequence[Pair], score: Column) -> Row:
    values = [
        tuple(score.metric.on_scale(value) for record in pair if (value := score.read(record)) is not None)
        for pair in pairs
    ]
    here, there = ([pair[side] for pair in values] for side in (0, 1))
    differences = [b - a for a, b in zip(here, there, strict=True)]
    shares = [share for pair in pairs if (share := _differing(*pair)) is not None]
    return Row(
        optimizer=name,
        epochs=epochs,
        n=len(pairs),
        equal=sum(one.results == other.results for one, other in pairs),
        means=(statistics.fmean(here), statistics.fmean(there)),
        sd=statistics.stdev(differences) if len(differences) > 1 else None,
        largest=max(map(abs, differences)),
        examples=statistics.fmean(shares) if shares else None,
        measures={name: statistics.median(some) for name, some in sorted(_relative(pairs).items())},
    )


def _differing(one: Record, other: Record) -> float | None:
    """Return the share of examples of the scored split that are right in only one of two records."""
    split, name = one.task.scored, one.task.primary.name
    results = one.results[split], other.results[split]
    bits = [result.right.get(name, "") for result in results]
    if not all(bits):
        return None
    a, b = (
        int.from_bytes(unpack_right(bit, result.n), "big") for bit, result in zip(bits, results, strict=True)
    )
    return (a ^ b).bit_count() / results[0].n


def _relative(pairs: Iterable[Pair]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for one, other in pairs:
        if one.sharpness is None or other.sharpness is None:
            continue
        for name, estimate in one.sharpness.measures.items():
            twin = other.sharpness.measures.get(name)
            if twin is None or (twin.version, twin.n) != (estimate.version, estimate.n):
                continue
            if estimate.value and twin.value is not None:
                found[name].append(abs(twin.value - estimate.value) / abs(estimate.value))
    return found


INTRODUCTION = """\
The same spec gives the same bytes on one processor model and instruction set only. Here the same runs were
made on two: the differences between them are a noise floor, below which a difference between two rows of a
leaderboard is not meaningful. *sd* is the standard deviation of the difference of one run between the
machines; *examples* is the share of test examples that are right on only one of the two; the last columns
are median relative differences of the measures."""


def render(found: Sequence[Spread], command: str) -> str:
    """Write the report as Markdown."""
    lines = ["# Spread between two machines", "", *INTRODUCTION.split("\n")]
    for spread in found:
        lines += ["", *_section(spread)]
    lines += ["", "This page is made by", "", "```sh", text.plain(command), "```"]
    return "\n".join(lines) + "\n"


def _section(spread: Spread) -> Iterator[str]:
    yield f"## {text.markdown(spread.task)} on {text.markdown(spread.data)}: {spread.score.title}"
    yield ""
    names = sorted({name for row in spread.rows for name in row.measures})
    header = ["optimizer", "epochs", "runs", "equal", "mean [a]", "mean [b]", "sd", "largest", "examples"]
    header += names
    rows = [
        [
            text.markdown(row.optimizer),
            f"{row.epochs:g}",
            str(row.n),
            str(row.equal),
            *(spread.score.value(mean) for mean in row.means),
            "-" if row.sd is None else spread.score.difference(row.sd),
            spread.score.difference(row.largest),
            "-" if row.examples is None else f"{100 * row.examples:.1f} %",
            *(_percent(row.measures.get(name)) for name in names),
        ]
        for row in spread.rows
    ]
    yield from text.grid(header, rows, [False, *[True] * (len(header) - 1)])
    yield ""
    for letter, name in zip("ab", spread.fingerprints, strict=True):
        yield f"- [{letter}] {text.markdown(name)}"
    for line in spread.left_out:
        yield f"- left out: {text.markdown(line)}"


def _percent(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.2g} %"
