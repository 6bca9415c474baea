"""Leaderboards: records sorted into tables that may be compared, by the comparison protocol.

A table holds the records of one stratum (task with its parameters, data set, protocol version, precision,
device kind) at one budget in one view (suite.report.views); a row is one optimizer with its hyperparameters.

Hyperparameters are as given by hand, not tuned: tables are headed so, sorted by name, and rank nobody.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from suite import PROTOCOL
from suite.report import text
from suite.report.runs import Columns, Reader, Run, TaskInfo, entry_label, tails
from suite.report.views import REPORT_VIEWS, Place, places, row_key
from suite.slim import no_collection
from suite.spec import EntryRef, Param
from suite.stats import (
    MINIMUM_SEEDS,
    Interval,
    Verdict,
    classify,
    mean_interval,
    pairing_correlation,
)

MARGIN = 0.005
"""Difference in test accuracy (a fraction) below which two optimizers count as a tie."""

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
    """One optimizer in one table. Accuracies are fractions; means are over completed runs."""

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
    test_accuracy: Interval | None
    validation_accuracy: Interval | None
    test_accuracy_as_trained: Interval | None
    train_loss: Interval | None
    measures: Mapping[str, Measured]
    sample_gradients: float
    """Mean cost of a completed run; of all of them as planned where none was completed."""
    cost: float
    """The same, in passes of the training set through one gradient over the task's budget."""
    train_s: float | None
    """Median training time of completed runs; None if they ran on several fingerprints."""
    fingerprint: str
    verdict: Verdict


@dataclass(frozen=True)
class Table:
    """The rows that may be compared with each other, and what their reader must know."""

    task: str
    data: str
    protocol: str
    precision: str
    device: str
    compiled: bool
    ranks: int
    """Processes of each run that shared every mini-batch."""
    tier: str
    view: str
    budget: float
    """Times the task's budget."""
    epochs: float
    """The task's budget in epochs."""
    seconds: float | None
    """The table's budget in seconds of training, in the view by seconds."""
    rows: tuple[Row, ...]
    measures: Mapping[str, tuple[int, ...]]
    """By name, the numbers of examples that it was estimated on."""
    minimum_seeds: int
    correlation: float | None
    """What pairing by seed buys: mean correlation between rows."""
    matched_loss: bool | None
    """Whether rows are at the same training loss; None for fewer than two rows with measures."""
    fingerprints: tuple[str, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Every table, sentences about records that are in none, and the command that makes it all again."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]
    command: str
    margin: float


def build(
    records: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, TaskInfo],
    optimizers: Mapping[str, Mapping[str, Param]],
    command: str,
    *,
    margin: float = MARGIN,
) -> Leaderboard:
    """Sort records into tables; the result does not depend on their order.

    Args:
        records: contents of result.json, whole or slim.
        tasks: by name, of every task that may occur; records of others are left out, saying so.
        optimizers: by name, the declared parameters, for labels that show what differs from the defaults.
        command: the command line that regenerates the report.
        margin: difference in test accuracy (a fraction) that counts as a tie.

    Raises:
        SteppeError: a record that lacks what every record holds.

    """
    with no_collection():
        return _build(records, tasks, optimizers, command, margin)


def _build(
    records: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, TaskInfo],
    optimizers: Mapping[str, Mapping[str, Param]],
    command: str,
    margin: float,
) -> Leaderboard:
    strata, left_out = _sift(records, tasks)
    heads = {
        key: ("\n".join((_task_label(run, tasks), *_conditions(run))), run.setting.spec.task.version)
        for key, (run, *_) in strata.items()
    }
    unlike = tails(heads)
    tables: list[Table] = []
    for key, runs in strata.items():
        stratum = _Stratum(tasks, optimizers, _budget(runs[0], tasks), margin)
        found = places(runs, stratum.epochs)
        tables += [stratum.table(chosen, place, unlike[key]) for place, chosen in found.items()]
    tables.sort(key=_order)
    return Leaderboard(tuple(tables), tuple(left_out), command, margin)


def names(board: Leaderboard) -> tuple[str, ...]:
    """Every entry of a leaderboard, each once, by name and the numbers in it."""
    found = {row.entry for table in board.tables for row in table.rows}
    return tuple(sorted(found, key=lambda name: (text.name_key(name), name)))


def _order(table: Table) -> tuple[Any, ...]:
    conditions = (table.task, table.data, table.precision, table.device, table.compiled, table.ranks)
    return (*conditions, REPORT_VIEWS.index(table.view), table.budget, table.fingerprints)


def _budget(run: Run, tasks: Mapping[str, TaskInfo]) -> float:
    task = run.setting.spec.task
    return tasks[task.name].epochs(task.params)


def _task_label(run: Run, tasks: Mapping[str, TaskInfo]) -> str:
    task = run.setting.spec.task
    return entry_label(task, tasks[task.name].params)


def _conditions(run: Run) -> tuple[str, ...]:
    spec = run.setting.spec
    return spec.data, spec.protocol, spec.precision, spec.device, str(spec.compile), str(spec.ranks)


def _sift(
    records: Iterable[Mapping[str, Any]], tasks: Mapping[str, TaskInfo]
) -> tuple[dict[str, list[Run]], list[str]]:
    """Sort records by stratum, each run once, in a fixed order; and say in sentences which are in none."""
    reader = Reader()
    runs: dict[str, tuple[Run, Mapping[str, Any]]] = {}
    foreign: set[tuple[str, str]] = set()
    for record in records:
        run = reader.read_alike(record)
        if run is None:
            if (protocol := _protocol(record)) != PROTOCOL:  # its fields may be others: it is not read
                foreign.add((protocol, str(record.get("run_id"))))
                continue
            run = reader.read(record)
        if run.run_id not in runs or _first(record, runs[run.run_id][1]):
            runs[run.run_id] = run, record
    strata: dict[str, list[Run]] = defaultdict(list)
    others = Counter(protocol for protocol, _ in foreign)
    strangers: Counter[str] = Counter()
    set_ups: dict[tuple[str, str, float], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for _, (run, _) in sorted(runs.items(), key=lambda item: item[0]):
        setting = run.setting
        if setting.spec.task.name not in tasks:
            strangers[setting.spec.task.name] += 1
        else:
            set_ups[setting.stratum, setting.optimizer_key, setting.epochs][setting.set_up].append(run)
    repeats: list[Run] = []
    for (stratum, *_), some in set_ups.items():
        chosen, left = _each_seed_once(some)
        strata[stratum] += chosen
        repeats += left
    left_out = [
        f"{_records(n)} of protocol {name} left out: this is {PROTOCOL}."
        for name, n in sorted(others.items())
    ]
    left_out += [
        f"{_records(n)} of task {name} left out: no such task is known here (a plugin not given?)."
        for name, n in sorted(strangers.items())
    ]
    if repeats:
        failed = sum(run.failed for run in repeats)
        left_out.append(
            f"{_records(len(repeats))} left out: the same seed again under another set-up"
            f"{f'; {failed} of them failed' if failed else ''}."
        )
    return strata, left_out


def _each_seed_once(set_ups: Mapping[str, list[Run]]) -> tuple[list[Run], list[Run]]:
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


def _first(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a record of a run goes before another of it, whatever their order: completed ones first."""
    texts = [(record["status"], json.dumps(dict(record), sort_keys=True)) for record in (one, other)]
    return texts[0] < texts[1]


def _protocol(record: Mapping[str, Any]) -> str:
    spec = record.get("spec")
    return str(spec.get("protocol", PROTOCOL)) if isinstance(spec, Mapping) else PROTOCOL


def _records(n: int) -> str:
    return f"{n} record{'s' if n > 1 else ''}"


class _Stratum:
    """Makes the tables of one stratum; what several of them show is worked out once."""

    def __init__(
        self,
        tasks: Mapping[str, TaskInfo],
        optimizers: Mapping[str, Mapping[str, Param]],
        epochs: float,
        margin: float,
    ) -> None:
        self._tasks, self._optimizers, self._margin = tasks, optimizers, margin
        self.epochs = epochs
        """The task's budget."""
        self._labels: dict[str, str] = {}
        self._rows: dict[tuple[str, ...], Row] = {}

    def table(self, runs: Sequence[Run], place: Place, unlike: str) -> Table:
        """Make the table of these runs; `unlike` tells its task from others of its name."""
        first = runs[0].setting.spec
        info = self._tasks[first.task.name]
        minimum = MINIMUM_SEEDS[info.tier]
        named = self._named(runs, place)
        scores = {name: _by_seed(some) for name, _, some in named}
        failures = {name: sum(run.failed for run in some) for name, _, some in named}
        verdicts = classify(scores, failures, margin=self._margin, minimum=minimum)
        rows = tuple(
            replace(self._row(some), optimizer=name, entry=entry, verdict=verdicts[name])
            for name, entry, some in named
        )
        kinds = {run.kind for run in runs}
        examples: dict[str, set[int]] = defaultdict(set)
        for kind in kinds:
            for name, n in kind.examples.items():
                examples[name].add(n)
        losses = [row.train_loss.mean for row in rows if row.train_loss is not None]
        return Table(
            task=_task_label(runs[0], self._tasks) + unlike,
            data=first.data,
            protocol=first.protocol,
            precision=first.precision,
            device=first.device,
            compiled=first.compile,
            ranks=first.ranks,
            tier=info.tier,
            view=place.view,
            budget=place.budget,
            epochs=self.epochs,
            seconds=place.seconds,
            rows=rows,
            measures={name: tuple(sorted(examples[name])) for name in sorted(examples)},
            minimum_seeds=minimum,
            correlation=pairing_correlation(scores),
            matched_loss=max(losses) - min(losses) <= MATCHED * max(losses) if len(losses) > 1 else None,
            fingerprints=tuple(sorted({kind.fingerprint for kind in kinds if not kind.failed})),
        )

    def _named(self, runs: Sequence[Run], place: Place) -> list[tuple[str, str, list[Run]]]:
        """Sort runs into rows, each with its label and that of its entry, in the order of the table."""
        rows: dict[tuple[str, float], list[Run]] = defaultdict(list)
        for run in runs:
            rows[row_key(run, place.view)].append(run)
        entries = self._entries({key: some[0].setting.spec.optimizer for (key, _), some in rows.items()})
        labelled = [
            (
                entries[optimizer] + (_epochs(some[0], place.budget * self.epochs) if at else ""),
                entries[optimizer],
                some,
            )
            for (optimizer, at), some in rows.items()
        ]
        return sorted(labelled, key=lambda one: (text.name_key(one[0]), one[:2]))

    def _entries(self, one: Mapping[str, EntryRef]) -> dict[str, str]:
        """Label the optimizers by key, each unlike the others."""
        for key, ref in one.items():
            if key not in self._labels:
                self._labels[key] = entry_label(ref, self._optimizers.get(ref.name))
        suffixes = tails({key: (self._labels[key], ref.version) for key, ref in one.items()})
        return {key: self._labels[key] + suffixes[key] for key in one}

    def _row(self, runs: Sequence[Run]) -> Row:
        """Make the row of these runs, without what its table says of it."""
        ids = tuple(run.run_id for run in runs)
        if ids not in self._rows:
            self._rows[ids] = _row(runs, self.epochs)
        return self._rows[ids]


def _epochs(run: Run, budget: float) -> str:
    epochs = run.setting.spec.epochs
    return "" if math.isclose(epochs, budget, rel_tol=1e-6) else f" ({round(epochs, 3):.10g} epochs)"


def _by_seed(runs: Sequence[Run]) -> dict[int, float]:
    completed = Columns(run for run in runs if not run.failed)
    seeds = [run.seed for some in completed.by_kind.values() for run in some]
    return dict(zip(seeds, completed.of("results", "test_accuracy"), strict=True))


def _row(runs: Sequence[Run], epochs: float) -> Row:
    completed = Columns(run for run in runs if not run.failed)
    costs = [float(kind.sample_gradients) for kind, some in completed.by_kind.items() for _ in some] or [
        run.kind.planned_sample_gradients() for run in runs
    ]
    seconds = completed.of("cost", "train_s")
    prints = {kind.fingerprint for kind in completed.by_kind}
    return Row(
        optimizer="",
        entry="",
        epochs=runs[0].setting.spec.epochs,
        runs=tuple(run.run_id for run in sorted(runs, key=lambda run: (run.seed, run.run_id))),
        n=len(runs),
        failed=sum(run.failed for run in runs),
        test_accuracy=_interval(completed, "results", "test_accuracy"),
        validation_accuracy=_interval(completed, "results", "validation_accuracy"),
        test_accuracy_as_trained=_interval(completed, "results", "test_accuracy_as_trained"),
        train_loss=_interval(completed, "sharpness", "train_loss"),
        measures=_measures(completed),
        sample_gradients=statistics.fmean(costs),
        cost=statistics.fmean(costs) / (epochs * runs[0].kind.n_train),
        train_s=statistics.median(seconds) if seconds and len(prints) == 1 else None,
        fingerprint=next(iter(prints)) if len(prints) == 1 else "",
        verdict=Verdict("alone"),
    )


def _interval(runs: Columns, *path: str) -> Interval | None:
    values = runs.of(*path)
    return mean_interval(values) if values else None


def _measures(runs: Columns) -> dict[str, Measured]:
    found = {}
    for name in sorted({name for kind in runs.by_kind for name in kind.measures}):
        path = ("sharpness", "measures", name)
        interval = _interval(runs, *path, "value")
        if interval is not None:
            errors = _rms(runs, *path, "se_probes"), _rms(runs, *path, "se_examples")
            found[name] = Measured(interval, *errors)
    return found


def _rms(runs: Columns, *path: str) -> float | None:
    errors = runs.of(*path)
    return math.sqrt(statistics.fmean([x * x for x in errors])) if errors else None
