"""The rows of tables, computed from their runs."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from suite.records.schema import Estimate, Record
from suite.report.columns import Column
from suite.report.runs import Run
from suite.report.stats import Interval, mean_interval
from suite.report.verdicts import Verdict, Word


@dataclass(frozen=True)
class Measured:
    """A measure over the seeds of a row, and the root mean squares of its estimator's errors."""

    over_seeds: Interval
    se_probes: float | None
    se_examples: float | None


@dataclass(frozen=True)
class Row:
    """One optimizer in one table. Means are over completed runs, on the metrics' scales."""

    optimizer: str
    """Label: the entry, with its epochs if they differ from the budget's in a table by seconds."""
    entry: str
    """The label without epochs, which identifies the optimizer in every table."""
    epochs: float
    runs: tuple[str, ...]
    """Ids of its runs, by seed."""
    n: int
    """Runs, failed ones included."""
    failed: int
    values: Mapping[str, Interval]
    """By column key; columns without a finite value are missing."""
    floored: Mapping[str, int]
    """By column key, the number of runs at or below the floor of a log scale."""
    train_loss: Interval | None
    measures: Mapping[str, Measured]
    """By column; columns without a value are missing."""
    unmeasured: Mapping[str, int]
    """By column, the number of completed runs that could not be measured."""
    sample_gradients: float
    """Mean cost of completed runs; mean planned cost if none completed."""
    cost: float
    """The mean cost relative to one gradient per example over the task's budget."""
    train_s: float | None
    """Median training time of completed runs; None if they ran on several fingerprints."""
    fingerprints: tuple[str, ...]
    """Hardware and software of the completed runs."""
    verdict: Verdict

    @property
    def fingerprint(self) -> str:
        """The fingerprint; empty if there are several."""
        return self.fingerprints[0] if len(self.fingerprints) == 1 else ""


Version = tuple[str, int]
"""A measure and the version of its estimator."""


@dataclass(frozen=True)
class Estimates:
    """The estimates of one measure in a row, without a label."""

    measured: Measured | None
    without: int
    """Completed runs that could not be measured."""
    examples: set[int]


@dataclass(frozen=True)
class Part:
    """A row and the facts about its runs, computed once: most rows appear in several tables."""

    row: Row
    """Without label, verdict and measures, which depend on the table."""
    scores: Mapping[int, float]
    """The tested score of each completed run, by seed."""
    measures: Mapping[Version, Estimates]
    moved: int
    digests: set[tuple[tuple[str, str], ...]]
    evidence: set[str]
    """Keys of the columns whose values can all be recounted."""

    def as_row(self, optimizer: str, entry: str, verdict: Verdict, labels: Mapping[Version, str]) -> Row:
        """Return the row for a table; `labels` are the columns of the measures."""
        return replace(
            self.row,
            optimizer=optimizer,
            entry=entry,
            verdict=verdict,
            measures={
                label: some.measured
                for key, label in labels.items()
                if (some := self.measures.get(key)) and some.measured
            },
            unmeasured={labels[key]: some.without for key, some in self.measures.items() if some.without},
        )


def make_part(runs: Sequence[Run], columns: Sequence[Column], epochs: float) -> Part:
    """Compute the row of these runs; `epochs` is the task's budget."""
    ended = [run for run in runs if not run.failed]
    completed = [run.record for run in ended]
    costs = [record.cost.sample_gradients for record in completed] or [run.planned for run in runs]
    values: dict[str, Interval] = {}
    floored: dict[str, int] = {}
    scores: dict[int, float] = {}
    for column in columns:
        read = [column.read(record) for record in completed]
        known = [value for value in read if value is not None]
        if known:
            values[column.key] = mean_interval([column.metric.on_scale(value) for value in known])
        if at_floor := sum(map(column.metric.at_floor, known)):
            floored[column.key] = at_floor
        if column is columns[0]:
            scored = zip(ended, read, strict=True)
            scores = {run.seed: column.score(value) for run, value in scored if value is not None}
    losses = [record.sharpness.metrics.get("loss") for record in completed if record.sharpness]
    known_losses = [loss for loss in losses if loss is not None]
    seconds = [record.cost.train_s for record in completed]
    prints = tuple(sorted({name for run in ended for name in run.fingerprints}))
    row = Row(
        optimizer="",
        entry="",
        epochs=runs[0].record.spec.epochs,
        runs=tuple(run.run_id for run in sorted(runs, key=lambda run: (run.seed, run.run_id))),
        n=len(runs),
        failed=len(runs) - len(ended),
        values=values,
        floored=floored,
        train_loss=mean_interval(known_losses) if known_losses else None,
        measures={},
        unmeasured={},
        sample_gradients=statistics.fmean(costs),
        cost=statistics.fmean(costs) / (epochs * runs[0].record.cost.n_train),
        train_s=statistics.median(seconds) if seconds and len(prints) == 1 else None,
        fingerprints=prints,
        verdict=Verdict(Word.ALONE),
    )
    return Part(
        row=row,
        scores=scores,
        measures=_measures(completed),
        moved=sum(run.moved for run in runs),
        digests={tuple(sorted(record.digests.items())) for record in completed},
        evidence={column.key for column in columns if all(map(column.counted, completed))},
    )


def _measures(records: Iterable[Record]) -> dict[Version, Estimates]:
    found: dict[Version, list[Estimate]] = defaultdict(list)
    for record in records:
        for name, one in record.sharpness.measures.items() if record.sharpness else ():
            found[name, one.version].append(one)
    return {key: _estimates(some) for key, some in found.items()}


def _estimates(found: Sequence[Estimate]) -> Estimates:
    values = [one.value for one in found if one.value is not None]
    measured = values and Measured(
        mean_interval(values),
        _rms([one.se_probes for one in found if one.value is not None]),
        _rms([one.se_examples for one in found if one.value is not None]),
    )
    return Estimates(measured or None, len(found) - len(values), {one.n for one in found})


def _rms(errors: Sequence[float | None]) -> float | None:
    squares = [error * error for error in errors if error is not None]
    return math.sqrt(statistics.fmean(squares)) if squares else None
