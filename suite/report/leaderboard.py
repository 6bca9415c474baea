"""Leaderboards: records sorted into tables that may be compared, by the comparison protocol.

A table holds the records of one stratum (task with its parameters, data set, protocol and engine version,
precision, device kind, ranks) at one budget in one view (suite.report.views); a row is one optimizer with its
hyperparameters. All that a table says of its results comes from the records' own description of their task.

Hyperparameters are as given by hand, not tuned: tables are headed so, sorted by name, and rank nobody.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from suite import PROTOCOL, schema
from suite.index import slim
from suite.metric import Description
from suite.report import text
from suite.report.columns import Column, columns
from suite.report.runs import Run, entry_label, tails
from suite.report.views import REPORT_VIEWS, Place, places, row_key
from suite.schema import Estimate, Record
from suite.spec import EntryRef, Param
from suite.stats import (
    MINIMUM_SEEDS,
    Interval,
    Verdict,
    Word,
    classify,
    mean_interval,
    pairing_correlation,
)

MATCHED = 0.05
"""Training losses whose range is at most this share of the largest count as matched (rule 27)."""


@dataclass(frozen=True)
class Measured:
    """A measure over the seeds of a row, and the root mean square of its estimator's errors."""

    over_seeds: Interval
    se_probes: float | None
    se_examples: float | None


@dataclass(frozen=True)
class Row:
    """One optimizer in one table. Means are over completed runs, on the scales of the metrics."""

    optimizer: str
    """Label: the entry, with its epochs where a table by seconds has it at others than the budget's."""
    entry: str
    """The same without the epochs: what tells an optimizer from the others of every table."""
    epochs: float
    runs: tuple[str, ...]
    """Ids of its runs, by seed."""
    n: int
    """Runs, failed ones included."""
    failed: int
    values: Mapping[str, Interval]
    """By key of the table's columns; a column without a finite number is not there."""
    floored: Mapping[str, int]
    """By key, how many runs are at the floor of a log scale, or below."""
    train_loss: Interval | None
    measures: Mapping[str, Measured]
    """By column; one without a value is not there."""
    unmeasured: Mapping[str, int]
    """By column, how many completed runs could not be measured."""
    sample_gradients: float
    """Mean cost of a completed run; of all of them as planned where none was completed."""
    cost: float
    """The same, in passes of the training set through one gradient over the task's budget."""
    train_s: float | None
    """Median training time of completed runs; None if they ran on several fingerprints."""
    fingerprints: tuple[str, ...]
    """Hardware and software that made the results of completed runs."""
    verdict: Verdict

    @property
    def fingerprint(self) -> str:
        """The only one; empty where there are several."""
        return self.fingerprints[0] if len(self.fingerprints) == 1 else ""


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
    return {run_id: some[0] for run_id, some in _by_run(records).items()}


def _by_run(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Group records by run, the chosen one first; whole or slim makes no difference."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.run_id].append(record)
    for some in found.values():
        if len(some) > 1:
            some.sort(key=lambda record: (record.status, schema.to_line(slim(record))))
    return found


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
    runs: dict[str, Run] = {}
    unlike: list[tuple[Run, Run]] = []
    for run_id, (first, *further) in _by_run(mine).items():
        runs[run_id] = Run(first)
        unlike += [(runs[run_id], Run(other)) for other in further if _outcome(other) != _outcome(first)]
    set_ups: dict[tuple[bytes, bytes, float], dict[bytes, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for _, run in sorted(runs.items()):
        set_ups[run.stratum, run.optimizer_key, run.epochs][run.set_up].append(run)
    strata: dict[bytes, list[Run]] = defaultdict(list)
    repeats: list[Run] = []
    for (stratum, *_), some in set_ups.items():
        chosen, left = _each_seed_once(some)
        strata[stratum] += chosen
        repeats += left
    left_out = [
        f"{_records(len(some))} of protocol {name} left out: this is {PROTOCOL}."
        for name, some in sorted(others.items())
    ]
    if unlike:
        failed = sum(other.failed for _, other in unlike)
        alike = sum(one.fingerprint == other.fingerprint for one, other in unlike)
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
        self._rows: dict[tuple[str, ...], Row] = {}

    def table(self, runs: Sequence[Run], place: Place, unlike: str) -> Table:
        """Make the table of these runs; `unlike` tells its task from others of its name."""
        first = runs[0].record.spec
        minimum = MINIMUM_SEEDS[self.task.tier]
        named = self._named(runs, place)
        scores = {name: self._by_seed(some) for name, _, some in named}
        failures = {name: sum(run.failed for run in some) for name, _, some in named}
        verdicts = classify(scores, failures, margin=self.task.primary.margin, minimum=minimum)
        labels, outdated = _measure_labels(runs)
        rows = tuple(
            replace(self._row(some, labels), optimizer=name, entry=entry, verdict=verdicts[name])
            for name, entry, some in named
        )
        completed = [run.record for run in runs if not run.failed]
        examples: dict[str, set[int]] = defaultdict(set)
        for label, estimate in _estimates(completed, labels):
            examples[label].add(estimate.n)
        losses = [row.train_loss.mean for row in rows if row.train_loss is not None]
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
            moved=sum(run.moved for run in runs),
            digests=len({tuple(sorted(record.digests.items())) for record in completed}),
            evidence=tuple(
                column.key for column in self._columns if completed and all(map(column.counted, completed))
            ),
        )

    def _by_seed(self, runs: Sequence[Run]) -> dict[int, float]:
        """Return what is tested of each completed run, by seed."""
        score = self._columns[0]
        found = {run.seed: score.read(run.record) for run in runs if not run.failed}
        return {seed: score.score(value) for seed, value in found.items() if value is not None}

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

    def _row(self, runs: Sequence[Run], labels: Mapping[tuple[str, int], str]) -> Row:
        """Make the row of these runs, without what its table says of it."""
        ids = (*(run.run_id for run in runs), *labels.values())
        if ids not in self._rows:
            self._rows[ids] = self._made(runs, labels)
        return self._rows[ids]

    def _made(self, runs: Sequence[Run], labels: Mapping[tuple[str, int], str]) -> Row:
        completed = [run.record for run in runs if not run.failed]
        costs = [record.cost.sample_gradients for record in completed] or [
            run.planned_sample_gradients() for run in runs
        ]
        values: dict[str, Interval] = {}
        floored: dict[str, int] = {}
        for column in self._columns:
            known = [value for record in completed if (value := column.read(record)) is not None]
            if known:
                values[column.key] = mean_interval([column.metric.on_scale(value) for value in known])
            if at_floor := sum(map(column.metric.at_floor, known)):
                floored[column.key] = at_floor
        losses = [record.sharpness.metrics.get("loss") for record in completed if record.sharpness]
        known_losses = [loss for loss in losses if loss is not None]
        seconds = [record.cost.train_s for record in completed]
        prints = tuple(sorted({name for run in runs if not run.failed for name in run.fingerprints}))
        return Row(
            optimizer="",
            entry="",
            epochs=runs[0].record.spec.epochs,
            runs=tuple(run.run_id for run in sorted(runs, key=lambda run: (run.seed, run.run_id))),
            n=len(runs),
            failed=sum(run.failed for run in runs),
            values=values,
            floored=floored,
            train_loss=mean_interval(known_losses) if known_losses else None,
            measures=_measures(completed, labels),
            unmeasured=Counter(label for label, one in _estimates(completed, labels) if one.value is None),
            sample_gradients=statistics.fmean(costs),
            cost=statistics.fmean(costs) / (self.epochs * runs[0].record.cost.n_train),
            train_s=statistics.median(seconds) if seconds and len(prints) == 1 else None,
            fingerprints=prints,
            verdict=Verdict(Word.ALONE),
        )


def _matched(losses: Sequence[float]) -> bool | None:
    if len(losses) < 2:
        return None
    return max(losses) - min(losses) <= MATCHED * max(map(abs, losses))


def _epochs(run: Run, budget: float) -> str:
    epochs = run.record.spec.epochs
    return "" if math.isclose(epochs, budget, rel_tol=1e-6) else f" ({round(epochs, 3):.10g} epochs)"


def _measure_labels(runs: Sequence[Run]) -> tuple[dict[tuple[str, int], str], tuple[str, ...]]:
    """Name the column of each measure and version: numbers of two versions of an estimator share none."""
    versions: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        if run.record.sharpness is not None:
            for name, estimate in run.record.sharpness.measures.items():
                versions[name].add(estimate.version)
    labels = {
        (name, version): name if len(some) == 1 else f"{name} v{version}"
        for name, some in versions.items()
        for version in some
    }
    return labels, tuple(sorted(name for name, some in versions.items() if len(some) > 1))


def _estimates(
    records: Iterable[Record], labels: Mapping[tuple[str, int], str]
) -> Iterator[tuple[str, Estimate]]:
    """Yield every estimate of these records with the name of its column."""
    for record in records:
        for name, one in record.sharpness.measures.items() if record.sharpness else ():
            yield labels[name, one.version], one


def _measures(records: Sequence[Record], labels: Mapping[tuple[str, int], str]) -> dict[str, Measured]:
    found: dict[str, list[Estimate]] = defaultdict(list)
    for label, one in _estimates(records, labels):
        if one.value is not None:
            found[label].append(one)
    return {
        label: Measured(
            mean_interval([one.value for one in some if one.value is not None]),
            _rms([one.se_probes for one in some]),
            _rms([one.se_examples for one in some]),
        )
        for label, some in sorted(found.items())
    }


def _rms(errors: Sequence[float | None]) -> float | None:
    squares = [error * error for error in errors if error is not None]
    return math.sqrt(statistics.fmean(squares)) if squares else None
