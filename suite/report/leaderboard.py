"""Leaderboards: records sorted into tables that may be compared, by the comparison protocol.

A table holds the records of one stratum (task with its parameters, data set, protocol and engine version,
precision, device kind, ranks) at one budget in one view (suite.report.views); a row is one optimizer with its
hyperparameters. All that a table says of its results comes from the records' own description of their task.

Hyperparameters are as given by hand, not tuned: tables are headed so, sorted by name, and rank nobody.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from suite import PROTOCOL
from suite.entries.labels import entry_label
from suite.metric import Description
from suite.records import schema
from suite.records.schema import Record
from suite.report import text
from suite.report.columns import Column, columns
from suite.report.rows import Part, Row, Version, make_part
from suite.report.runs import Run, runs_of, tails
from suite.report.stats import MINIMUM_SEEDS, classify, pairing_correlation
from suite.report.views import REPORT_VIEWS, Place, places, row_key
from suite.spec import EntryRef, Param
from suite.store.index import slim

MATCHED = 0.05
"""Training losses whose range is at most this share of the largest count as matched (rule 27)."""


@dataclass(frozen=True)
class Table:
    """The rows that may be compared with each other, and what their reader must know."""

    task: str
    data: str
    protocol: str
    engine: int
    precision: str
    device: str
    compiled: bool
    ranks: int
    """Processes of each run that shared every mini-batch."""
    described: Description
    """What its records say of their task."""
    view: str
    budget: float
    """Times the task's budget."""
    seconds: float | None
    """The table's budget in seconds of training, in the view by seconds."""
    columns: tuple[Column, ...]
    """The first is what rows are compared by."""
    rows: tuple[Row, ...]
    measures: Mapping[str, tuple[int, ...]]
    """By name, the numbers of examples that it was estimated on."""
    outdated: tuple[str, ...]
    """Measures of several versions of their estimator, each a column of its own."""
    minimum_seeds: int
    correlation: float | None
    """What pairing by seed buys: mean correlation between rows."""
    matched_loss: bool | None
    """Whether rows are at the same training loss; None for fewer than two rows with measures."""
    fingerprints: tuple[str, ...]
    moved: int
    """Runs that went from one fingerprint to another while they trained."""
    digests: int
    """How many versions of the generated data there are: machines may differ in the last digits."""
    evidence: tuple[str, ...]
    """Keys of the columns whose numbers can all be recounted from the stored correctness of examples."""

    @property
    def score(self) -> Column:
        """What rows are compared by."""
        return self.columns[0]

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
    """Every table, sentences about records that are in none, and the command that makes it all again."""

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
        tasks: by name, the declared parameters, for labels that show what differs from the defaults.
        optimizers: likewise; an entry that is not among them is shown with all of its parameters.
        command: the command line that regenerates the report.

    """
    strata, left_out = _sift(records)
    heads = {
        key: ("\n".join((_task_label(run, tasks), *_conditions(run))), run.record.spec.task.version)
        for key, (run, *_) in strata.items()
    }
    unlike = tails(heads)
    tables: list[Table] = []
    for key, runs in strata.items():
        stratum = _Stratum(runs, tasks, optimizers)
        found = places(runs, stratum.epochs)
        tables += [stratum.table(chosen, place, unlike[key]) for place, chosen in found.items()]
    tables.sort(key=_order)
    return Leaderboard(tuple(tables), tuple(left_out), command)


def names(board: Leaderboard) -> tuple[str, ...]:
    """Every entry of a leaderboard, each once, by name and the numbers in it."""
    found = {row.entry for table in board.tables for row in table.rows}
    return tuple(sorted(found, key=lambda name: (text.name_key(name), name)))


def _order(table: Table) -> tuple[Any, ...]:
    conditions = (table.task, table.data, table.engine, table.precision, table.device, table.compiled)
    return (*conditions, table.ranks, REPORT_VIEWS.index(table.view), table.budget, table.fingerprints)


def _task_label(run: Run, tasks: Mapping[str, Mapping[str, Param]]) -> str:
    task = run.record.spec.task
    return entry_label(task, tasks.get(task.name))


def _conditions(run: Run) -> tuple[str, ...]:
    spec = run.record.spec
    names = spec.data, spec.protocol, spec.precision, spec.device
    return *names, str(spec.engine), str(spec.compile), str(spec.ranks)


def once(records: Iterable[Record]) -> dict[str, Record]:
    """Choose one record of each run, by its id, whatever their order: a completed one where there is one."""
    return _by_run(records)[0]


def _by_run(records: Iterable[Record]) -> tuple[dict[str, Record], dict[str, list[Record]]]:
    """Choose a record of each run, and return the others too; whole or slim makes no difference."""
    chosen: dict[str, Record] = {}
    others: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if chosen.setdefault(record.run_id, record) is not record:
            others[record.run_id].append(record)
    for run_id, some in others.items():
        some.insert(0, chosen[run_id])
        some.sort(key=lambda record: (record.status, schema.to_line(slim(record))))
        chosen[run_id] = some.pop(0)
    return chosen, others


def _outcome(record: Record) -> tuple[object, ...]:
    """Tell what must be the same wherever one run is recorded, but for the machine."""
    results = {split: (one.n, one.metrics, one.as_trained) for split, one in record.results.items()}
    return record.status, results, record.facts, record.profiles


def _sift(records: Iterable[Record]) -> tuple[dict[bytes, list[Run]], list[str]]:
    """Sort records by stratum, each run once, in a fixed order; and say in sentences which are in none."""
    mine: list[Record] = []
    others: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.protocol == PROTOCOL:
            mine.append(record)
        else:
            others[record.protocol].add(record.run_id)
    chosen, further = _by_run(mine)
    unlike = [
        (chosen[run_id], other)
        for run_id, some in further.items()
        for other in some
        if _outcome(other) != _outcome(chosen[run_id])
    ]
    set_ups: dict[tuple[bytes, bytes, float], dict[bytes, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs_of([chosen[run_id] for run_id in sorted(chosen)]):
        keys = run.keys
        set_ups[keys.stratum, keys.optimizer, keys.epochs][keys.set_up].append(run)
    strata: dict[bytes, list[Run]] = defaultdict(list)
    repeats: list[Run] = []
    for (stratum, *_), some in set_ups.items():
        kept, left = _each_seed_once(some)
        strata[stratum] += kept
        repeats += left
    left_out = [
        f"{_records(len(some))} of protocol {name} left out: this is {PROTOCOL}."
        for name, some in sorted(others.items())
    ]
    if unlike:
        failed = sum(other.failed for _, other in unlike)
        alike = sum(
            one.provenance.origin.fingerprint == other.provenance.origin.fingerprint for one, other in unlike
        )
        left_out.append(
            f"{_records(len(unlike))} left out: the same run with other results, from another source"
            f"{f'; {failed} of them failed' if failed else ''}"
            f"{f'; {alike} of them from the same machine and software, which must not be' if alike else ''}."
        )
    if repeats:
        failed = sum(run.failed for run in repeats)
        left_out.append(
            f"{_records(len(repeats))} left out: the same seed again under another set-up"
            f"{f'; {failed} of them failed' if failed else ''}."
        )
    return strata, left_out


def _each_seed_once(set_ups: Mapping[bytes, list[Run]]) -> tuple[list[Run], list[Run]]:
    """Choose a run for each seed, and return those left over too.

    The set-up of most seeds is taken whole, so that a row mixes machines no more than it must; others fill
    in what seeds it lacks.
    """
    chosen: dict[int, Run] = {}
    left: list[Run] = []
    for _, runs in sorted(set_ups.items(), key=lambda one: (-len(one[1]), one[0])):
        left += [run for run in runs if run.seed in chosen]
        chosen = {run.seed: run for run in runs} | chosen
    return [*chosen.values()], left


def _records(n: int) -> str:
    return f"{n} record{'s' if n > 1 else ''}"


class _Stratum:
    """Makes the tables of one stratum; what several of them show is worked out once."""

    def __init__(
        self,
        runs: Sequence[Run],
        tasks: Mapping[str, Mapping[str, Param]],
        optimizers: Mapping[str, Mapping[str, Param]],
    ) -> None:
        self._tasks, self._optimizers = tasks, optimizers
        self.task = runs[0].record.task
        self.epochs = self.task.epochs
        """The task's budget."""
        completed = [run.record for run in runs if not run.failed]
        self._columns = columns(self.task, completed)
        self._labels: dict[bytes, str] = {}
        self._parts: dict[tuple[str, ...], Part] = {}

    def table(self, runs: Sequence[Run], place: Place, unlike: str) -> Table:
        """Make the table of these runs; `unlike` tells its task from others of its name."""
        first = runs[0].record.spec
        minimum = MINIMUM_SEEDS[self.task.tier]
        named = [(name, entry, self._part(some)) for name, entry, some in self._named(runs, place)]
        parts = [part for _, _, part in named]
        scores = {name: part.scores for name, _, part in named}
        failures = {name: part.row.failed for name, _, part in named}
        verdicts = classify(scores, failures, margin=self.task.primary.margin, minimum=minimum)
        labels, outdated = _measure_labels(parts)
        rows = tuple(
            replace(
                part.row,
                optimizer=name,
                entry=entry,
                verdict=verdicts[name],
                measures={
                    label: some.measured
                    for key, label in labels.items()
                    if (some := part.measures.get(key)) and some.measured
                },
                unmeasured={labels[key]: some.without for key, some in part.measures.items() if some.without},
            )
            for name, entry, part in named
        )
        examples: dict[str, set[int]] = defaultdict(set)
        for part in parts:
            for key, some in part.measures.items():
                examples[labels[key]] |= some.examples
        losses = [row.train_loss.mean for row in rows if row.train_loss is not None]
        completed = any(row.n > row.failed for row in rows)
        return Table(
            task=_task_label(runs[0], self._tasks) + unlike,
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
            evidence=tuple(
                column.key
                for column in self._columns
                if completed and all(column.key in part.evidence for part in parts)
            ),
        )

    def _named(self, runs: Sequence[Run], place: Place) -> list[tuple[str, str, list[Run]]]:
        """Sort runs into rows, each with its label and that of its entry, in the order of the table."""
        rows: dict[tuple[bytes, float], list[Run]] = defaultdict(list)
        for run in runs:
            rows[row_key(run, place.view)].append(run)
        entries = self._entries({key: some[0].record.spec.optimizer for (key, _), some in rows.items()})
        labelled = [
            (
                entries[optimizer] + (_epochs(some[0], place.budget * self.epochs) if at else ""),
                entries[optimizer],
                some,
            )
            for (optimizer, at), some in rows.items()
        ]
        return sorted(labelled, key=lambda one: (text.name_key(one[0]), one[:2]))

    def _entries(self, one: Mapping[bytes, EntryRef]) -> dict[bytes, str]:
        """Label the optimizers by key, each unlike the others."""
        for key, ref in one.items():
            if key not in self._labels:
                self._labels[key] = entry_label(ref, self._optimizers.get(ref.name))
        suffixes = tails({key: (self._labels[key], ref.version) for key, ref in one.items()})
        return {key: self._labels[key] + suffixes[key] for key in one}

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
    """Name the column of each measure and version: numbers of two versions of an estimator share none."""
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
