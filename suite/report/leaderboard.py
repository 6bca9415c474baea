"""Leaderboards: records sorted into tables of comparable rows, by the comparison protocol.

A table contains the records of one stratum (task with its parameters, data set, protocol and engine version,
precision, device type, ranks) at one budget in one view (suite.report.views); a row is one optimizer with its
hyperparameters. The description of the task comes from the records, not from the registry.

Hyperparameters are set by hand, not tuned: table headings say so, and rows are sorted by name, not ranked.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.entries.labels import entry_label
from suite.metric import Description
from suite.records.schema import Record
from suite.report import text
from suite.report.columns import Column, columns
from suite.report.rows import Part, Row, Version, make_part
from suite.report.runs import Run, entry_labels, tails
from suite.report.stats import pairing_correlation
from suite.report.strata import sift
from suite.report.verdicts import MINIMUM_SEEDS, classify
from suite.report.views import REPORT_VIEWS, Place, places, row_key
from suite.spec import Param

MATCHED = 0.05
"""Training losses whose range is at most this share of the largest count as matched (rule 27)."""


@dataclass(frozen=True)
class Table:
    """Comparable rows, their conditions, and facts for the notes below the table."""

    task: str
    data: str
    protocol: str
    engine: int
    precision: str
    device: str
    compiled: bool
    ranks: int
    """Processes per run that share each mini-batch."""
    described: Description
    """The description of the task in its records."""
    view: str
    budget: float
    """Times the task's budget."""
    seconds: float | None
    """The budget in seconds of training, in the view by seconds."""
    columns: tuple[Column, ...]
    """Rows are compared by the first column."""
    rows: tuple[Row, ...]
    measures: Mapping[str, tuple[int, ...]]
    """By name, the numbers of examples of its estimates."""
    outdated: tuple[str, ...]
    """Measures with several versions of their estimator, each in a separate column."""
    minimum_seeds: int
    correlation: float | None
    """Mean correlation over seeds between rows: the gain from pairing by seed."""
    matched_loss: bool | None
    """Whether rows have the same training loss; None for fewer than two rows with measures."""
    fingerprints: tuple[str, ...]
    moved: int
    """Runs that changed their fingerprint during training."""
    digests: int
    """Number of versions of the generated data: machines may differ in the last digits."""
    evidence: tuple[str, ...]
    """Keys of the columns whose values can all be recounted from the stored correctness of examples."""

    @property
    def score(self) -> Column:
        """The column that rows are compared by."""
        return self.columns[0]

    @property
    def heading(self) -> str:
        """View and budget."""
        return f"{text.VIEW_TITLES[self.view]}, {self.budget:g}x"

    @property
    def tier(self) -> str:
        """The task's tier."""
        return self.described.tier

    @property
    def epochs(self) -> float:
        """The task's budget in epochs."""
        return self.described.epochs


@dataclass(frozen=True)
class Leaderboard:
    """All tables, sentences about records in none of them, and the command that reproduces them."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]
    command: str


def build(
    records: Iterable[Record],
    tasks: Mapping[str, Mapping[str, Param]],
    optimizers: Mapping[str, Mapping[str, Param]],
    command: str,
) -> Leaderboard:
    """Sort records into tables; the result does not depend on their order.

    Args:
        records: whole or slim.
        tasks: by name, the declared parameters; labels show those that differ from their defaults.
        optimizers: likewise; the label of an unknown entry shows all its parameters.
        command: the command that reproduces the leaderboard.

    """
    strata, left_out = sift(records)
    labels: dict[bytes, str] = {}
    heads: dict[bytes, tuple[str, str]] = {}
    for key, (run, *_) in strata.items():
        spec = run.record.spec
        labels[key] = entry_label(spec.task, tasks.get(spec.task.name))
        head = labels[key], spec.data, spec.protocol, spec.precision, spec.device
        heads[key] = repr((*head, spec.engine, spec.compile, spec.ranks)), spec.task.version
    tables: list[Table] = []
    for key, tail in tails(heads).items():
        stratum = _Stratum(strata[key], labels[key] + tail, optimizers)
        tables += [stratum.table(some, place) for place, some in places(strata[key], stratum.epochs).items()]
    tables.sort(key=_order)
    return Leaderboard(tuple(tables), tuple(left_out), command)


def names(board: Leaderboard) -> tuple[str, ...]:
    """Return the labels of all entries, sorted by name and the numbers in it."""
    return tuple(text.by_name({row.entry for table in board.tables for row in table.rows}))


def _order(table: Table) -> tuple[Any, ...]:
    conditions = (table.task, table.data, table.engine, table.precision, table.device, table.compiled)
    return (*conditions, table.ranks, REPORT_VIEWS.index(table.view), table.budget, table.fingerprints)


class _Stratum:
    """Makes the tables of one stratum; rows that several tables share are computed once."""

    def __init__(
        self, runs: Sequence[Run], label: str, optimizers: Mapping[str, Mapping[str, Param]]
    ) -> None:
        self._label, self._optimizers = label, optimizers
        self.task = runs[0].record.task
        self.epochs = self.task.epochs
        """The task's budget."""
        self._columns = columns(self.task, [run.record for run in runs if not run.failed])
        self._parts: dict[tuple[str, ...], Part] = {}

    def table(self, runs: Sequence[Run], place: Place) -> Table:
        """Make the table of these runs."""
        first = runs[0].record.spec
        minimum = MINIMUM_SEEDS[self.task.tier]
        named = [(name, entry, self._part(some)) for name, entry, some in self._named(runs, place)]
        parts = [part for _, _, part in named]
        scores = {name: part.scores for name, _, part in named}
        failures = {name: part.row.failed for name, _, part in named}
        verdicts = classify(scores, failures, margin=self.task.primary.margin, minimum=minimum)
        labels, outdated = _measure_labels(parts)
        rows = tuple(part.as_row(name, entry, verdicts[name], labels) for name, entry, part in named)
        examples: dict[str, set[int]] = defaultdict(set)
        for part in parts:
            for key, some in part.measures.items():
                examples[labels[key]] |= some.examples
        losses = [row.train_loss.mean for row in rows if row.train_loss is not None]
        completed = any(row.n > row.failed for row in rows)
        keys = [column.key for column in self._columns]
        return Table(
            task=self._label,
            data=first.data,
            protocol=first.protocol,
            engine=first.engine,
            precision=first.precision,
            device=first.device,
            compiled=first.compile,
            ranks=first.ranks,
            described=self.task,
            view=place.view,
            budget=place.budget,
            seconds=place.seconds,
            columns=self._columns,
            rows=rows,
            measures={name: tuple(sorted(examples[name])) for name in sorted(examples)},
            outdated=outdated,
            minimum_seeds=minimum,
            correlation=pairing_correlation(scores),
            matched_loss=_matched(losses),
            fingerprints=tuple(sorted({name for row in rows for name in row.fingerprints})),
            moved=sum(part.moved for part in parts),
            digests=len(set().union(*(part.digests for part in parts))),
            evidence=tuple(key for key in keys if completed and all(key in part.evidence for part in parts)),
        )

    def _named(self, runs: Sequence[Run], place: Place) -> list[tuple[str, str, list[Run]]]:
        """Group runs into rows: (label, label of the entry, runs), in the order of the table."""
        rows: dict[tuple[bytes, float], list[Run]] = defaultdict(list)
        for run in runs:
            rows[row_key(run, place.view)].append(run)
        entries = entry_labels(
            {optimizer: some[0].record.spec.optimizer for (optimizer, _), some in rows.items()},
            self._optimizers,
        )
        budget = place.budget * self.epochs
        labelled = [
            (entries[optimizer] + (_epochs(some[0], budget) if at else ""), entries[optimizer], some)
            for (optimizer, at), some in rows.items()
        ]
        return sorted(labelled, key=lambda one: (text.name_key(one[0]), one[:2]))

    def _part(self, runs: Sequence[Run]) -> Part:
        ids = tuple(run.run_id for run in runs)
        if ids not in self._parts:
            self._parts[ids] = make_part(runs, self._columns, self.epochs)
        return self._parts[ids]


def _matched(losses: Sequence[float]) -> bool | None:
    if len(losses) < 2:
        return None
    return max(losses) - min(losses) <= MATCHED * max(map(abs, losses))


def _epochs(run: Run, budget: float) -> str:
    epochs = run.record.spec.epochs
    return "" if math.isclose(epochs, budget, rel_tol=1e-6) else f" ({round(epochs, 3):.10g} epochs)"


def _measure_labels(parts: Iterable[Part]) -> tuple[dict[Version, str], tuple[str, ...]]:
    """Name the columns of the measures, one per version of the estimator, and list measures with several."""
    versions: dict[str, set[int]] = defaultdict(set)
    for part in parts:
        for name, version in part.measures:
            versions[name].add(version)
    labels = {
        (name, version): name if len(some) == 1 else f"{name} v{version}"
        for name, some in sorted(versions.items())
        for version in sorted(some)
    }
    return labels, tuple(sorted(name for name, some in versions.items() if len(some) > 1))
