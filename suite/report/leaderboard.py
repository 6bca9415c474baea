"""Leaderboards: records sorted into tables that may be compared, by the comparison protocol.

A table holds the records of one stratum (task with its parameters, data set, protocol version, precision,
device kind) at one budget in one view (suite.report.views); a row is one optimizer with its hyperparameters.

Hyperparameters are as given by hand, not tuned: tables are headed so, sorted by name, and rank nobody.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite import PROTOCOL
from suite.report import text
from suite.report.runs import Run, TaskInfo, entry_label, read_run, tails
from suite.report.views import REPORT_VIEWS, Place, places, row_key
from suite.spec import Param
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
        records: contents of result.json, whole.
        tasks: by name, of every task that may occur; records of others are left out, saying so.
        optimizers: by name, the declared parameters, for labels that show what differs from the defaults.
        command: the command line that regenerates the report.
        margin: difference in test accuracy (a fraction) that counts as a tie.

    Raises:
        SteppeError: a record that lacks what every record holds.

    """
    strata, left_out = _sift(records, tasks)
    heads = {
        key: ("\n".join((_task_label(run, tasks), *_conditions(run))), run.spec.task.version)
        for key, (run, *_) in strata.items()
    }
    unlike = tails(heads)
    tables = [
        _table(chosen, place, unlike[key], tasks, optimizers, margin)
        for key, runs in strata.items()
        for place, chosen in places(runs, _budget(runs[0], tasks)).items()
    ]
    tables.sort(key=_order)
    return Leaderboard(tuple(tables), tuple(left_out), command, margin)


def names(board: Leaderboard) -> tuple[str, ...]:
    """Every entry of a leaderboard, each once, by name and the numbers in it."""
    found = {row.entry for table in board.tables for row in table.rows}
    return tuple(sorted(found, key=lambda name: (text.name_key(name), name)))


def _order(table: Table) -> tuple[Any, ...]:
    conditions = (table.task, table.data, table.precision, table.device, table.compiled)
    return (*conditions, REPORT_VIEWS.index(table.view), table.budget, table.fingerprints)


def _budget(run: Run, tasks: Mapping[str, TaskInfo]) -> float:
    return tasks[run.spec.task.name].epochs(run.spec.task.params)


def _task_label(run: Run, tasks: Mapping[str, TaskInfo]) -> str:
    return entry_label(run.spec.task, tasks[run.spec.task.name].params)


def _conditions(run: Run) -> tuple[str, ...]:
    spec = run.spec
    return spec.data, spec.protocol, spec.precision, spec.device, str(spec.compile)


def _sift(
    records: Iterable[Mapping[str, Any]], tasks: Mapping[str, TaskInfo]
) -> tuple[dict[str, list[Run]], list[str]]:
    """Sort records by stratum, each run once, in a fixed order; and say in sentences which are in none."""
    runs: dict[str, Run] = {}
    foreign: set[tuple[str, str]] = set()
    for record in records:
        if (protocol := _protocol(record)) != PROTOCOL:  # its fields may be others: it is not read
            foreign.add((protocol, str(record.get("run_id"))))
            continue
        run = read_run(record)
        runs[run.spec.run_id] = min(run, runs.get(run.spec.run_id, run), key=repr)
    strata: dict[str, list[Run]] = defaultdict(list)
    others = Counter(protocol for protocol, _ in foreign)
    strangers: Counter[str] = Counter()
    taken: set[tuple[str, str, int, float]] = set()
    repeats = 0
    for _, run in sorted(runs.items()):
        key = (run.stratum(), run.optimizer_key(), run.seed, round(run.spec.epochs, 3))
        if run.spec.task.name not in tasks:
            strangers[run.spec.task.name] += 1
        elif key in taken:
            repeats += 1
        else:
            taken.add(key)
            strata[key[0]].append(run)
    left_out = [
        f"{_records(n)} of protocol {name} left out: this is {PROTOCOL}."
        for name, n in sorted(others.items())
    ]
    left_out += [
        f"{_records(n)} of task {name} left out: no such task is known here (a plugin not given?)."
        for name, n in sorted(strangers.items())
    ]
    if repeats:
        left_out.append(f"{_records(repeats)} left out: the same seed again under another set-up.")
    return strata, left_out


def _protocol(record: Mapping[str, Any]) -> str:
    spec = record.get("spec")
    return str(spec.get("protocol", PROTOCOL)) if isinstance(spec, Mapping) else PROTOCOL


def _records(n: int) -> str:
    return f"{n} record{'s' if n > 1 else ''}"


def _table(
    runs: Sequence[Run],
    place: Place,
    unlike: str,
    tasks: Mapping[str, TaskInfo],
    optimizers: Mapping[str, Mapping[str, Param]],
    margin: float,
) -> Table:
    first = runs[0]
    info, epochs = tasks[first.spec.task.name], _budget(first, tasks)
    minimum = MINIMUM_SEEDS[info.tier]
    entries = _entries(runs, optimizers)
    rows: dict[tuple[str, float], list[Run]] = defaultdict(list)
    for run in runs:
        rows[row_key(run, place.view)].append(run)
    labelled = [
        (
            entries[optimizer] + (_epochs(some[0], place.budget * epochs) if at else ""),
            entries[optimizer],
            some,
        )
        for (optimizer, at), some in rows.items()
    ]
    named = sorted(labelled, key=lambda one: (text.name_key(one[0]), one[:2]))
    scores = {name: _by_seed(some) for name, _, some in named}
    failures = {name: sum(run.failed for run in some) for name, _, some in named}
    verdicts = classify(scores, failures, margin=margin, minimum=minimum)
    made = tuple(_row(name, entry, some, epochs, verdicts[name]) for name, entry, some in named)
    examples: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        for name, measured in run.measures.items():
            examples[name].add(int(measured.get("n", 0)))
    losses = [row.train_loss.mean for row in made if row.train_loss is not None]
    return Table(
        task=_task_label(first, tasks) + unlike,
        data=first.spec.data,
        protocol=first.spec.protocol,
        precision=first.spec.precision,
        device=first.spec.device,
        compiled=first.spec.compile,
        tier=info.tier,
        view=place.view,
        budget=place.budget,
        epochs=epochs,
        seconds=place.seconds,
        rows=made,
        measures={name: tuple(sorted(examples[name])) for name in sorted(examples)},
        minimum_seeds=minimum,
        correlation=pairing_correlation(scores),
        matched_loss=max(losses) - min(losses) <= MATCHED * max(losses) if len(losses) > 1 else None,
        fingerprints=tuple(sorted({run.fingerprint for run in runs if not run.failed})),
    )


def _entries(runs: Sequence[Run], optimizers: Mapping[str, Mapping[str, Param]]) -> dict[str, str]:
    """Label the optimizers by key, each unlike the others."""
    one = {run.optimizer_key(): run.spec.optimizer for run in runs}
    labels = {key: (entry_label(ref, optimizers.get(ref.name)), ref.version) for key, ref in one.items()}
    suffixes = tails(labels)
    return {key: label + suffixes[key] for key, (label, _) in labels.items()}


def _epochs(run: Run, budget: float) -> str:
    if math.isclose(run.spec.epochs, budget, rel_tol=1e-6):
        return ""
    return f" ({round(run.spec.epochs, 3):.10g} epochs)"


def _by_seed(runs: Sequence[Run]) -> dict[int, float]:
    scores = {run.seed: run.results.get("test_accuracy") for run in runs if not run.failed}
    return {seed: score for seed, score in scores.items() if score is not None}


def _row(name: str, entry: str, runs: Sequence[Run], epochs: float, verdict: Verdict) -> Row:
    completed = [run for run in runs if not run.failed]
    costs = [float(run.sample_gradients) for run in completed] or [
        run.planned_sample_gradients() for run in runs
    ]
    seconds = [run.train_s for run in completed if run.train_s is not None]
    prints = {run.fingerprint for run in completed}
    return Row(
        optimizer=name,
        entry=entry,
        epochs=runs[0].spec.epochs,
        runs=tuple(run.spec.run_id for run in sorted(runs, key=lambda run: (run.seed, run.spec.run_id))),
        n=len(runs),
        failed=len(runs) - len(completed),
        test_accuracy=_interval(completed, lambda run: run.results.get("test_accuracy")),
        validation_accuracy=_interval(completed, lambda run: run.results.get("validation_accuracy")),
        test_accuracy_as_trained=_interval(
            completed, lambda run: run.results.get("test_accuracy_as_trained")
        ),
        train_loss=_interval(completed, lambda run: run.train_loss),
        measures=_measures(completed),
        sample_gradients=statistics.fmean(costs),
        cost=statistics.fmean(costs) / (epochs * runs[0].n_train),
        train_s=statistics.median(seconds) if seconds and len(prints) == 1 else None,
        fingerprint=next(iter(prints)) if len(prints) == 1 else "",
        verdict=verdict,
    )


def _interval(runs: Sequence[Run], value: Callable[[Run], float | None]) -> Interval | None:
    values = [x for x in map(value, runs) if x is not None]
    return mean_interval(values) if values else None


def _measures(runs: Sequence[Run]) -> dict[str, Measured]:
    found = {}
    for name in sorted({name for run in runs for name in run.measures}):
        values = [x for run in runs if (x := run.measure(name, "value")) is not None]
        if values:
            found[name] = Measured(
                mean_interval(values), _rms(runs, name, "se_probes"), _rms(runs, name, "se_examples")
            )
    return found


def _rms(runs: Sequence[Run], name: str, key: str) -> float | None:
    errors = [x for run in runs if (x := run.measure(name, key)) is not None]
    return math.sqrt(statistics.fmean(x * x for x in errors)) if errors else None
