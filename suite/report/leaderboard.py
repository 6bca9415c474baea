"""Leaderboards: records sorted into tables that may be compared, by the comparison protocol.

A table holds the records of one stratum (task with its parameters, data set, protocol version, precision,
device kind) at one budget in one view; a row is one optimizer with its hyperparameters. There are two views:

- epochs: the run's epochs are the budget's;
- sample-gradients: the run's metered cost is what one gradient a step costs over the budget's epochs.

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
from suite.report.runs import Run, TaskInfo, entry_label, read_run, tails
from suite.select import VIEWS
from suite.spec import Param
from suite.stats import (
    MINIMUM_SEEDS,
    Interval,
    Verdict,
    classify,
    mean_interval,
    pairing_correlation,
)

BUDGETS = (1.0, 2.0, 4.0)
"""Budgets, in times the task's epochs, that are open to every optimizer (rule 2)."""

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
        _table(chosen, view, budget, unlike[key], tasks, optimizers, margin)
        for key, runs in strata.items()
        for (view, budget), chosen in _views(runs, tasks).items()
    ]
    tables.sort(
        key=lambda t: (t.task, t.data, t.precision, t.device, t.compiled, VIEWS.index(t.view), t.budget)
    )
    return Leaderboard(tuple(tables), tuple(left_out), command, margin)


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
    for record in records:
        run = read_run(record)
        runs[run.spec.run_id] = min(run, runs.get(run.spec.run_id, run), key=repr)
    strata: dict[str, list[Run]] = defaultdict(list)
    others: Counter[str] = Counter()
    strangers: Counter[str] = Counter()
    taken: set[tuple[str, str, int, float]] = set()
    repeats = 0
    for _, run in sorted(runs.items()):
        key = (run.stratum(), run.optimizer_key(), run.seed, round(run.spec.epochs, 3))
        if run.spec.protocol != PROTOCOL:
            others[run.spec.protocol] += 1
        elif run.spec.task.name not in tasks:
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


def _records(n: int) -> str:
    return f"{n} record{'s' if n > 1 else ''}"


def _views(runs: Sequence[Run], tasks: Mapping[str, TaskInfo]) -> dict[tuple[str, float], list[Run]]:
    """Sort the runs of one stratum into views and budgets; a run is in one at least."""
    views: dict[tuple[str, float], list[Run]] = defaultdict(list)
    for run in runs:
        budget = tasks[run.spec.task.name].epochs(run.spec.task.params)
        times = run.spec.epochs / budget
        # A budget is a whole number of steps, and the last batch of an epoch may be smaller: up to two steps.
        slack = 2 * run.sample_gradients / max(1, run.steps) + 1e-6 * budget * run.n_train
        cost = run.planned_sample_gradients()
        equal = [b for b in BUDGETS if abs(cost - b * budget * run.n_train) <= slack]
        for b in equal:
            views["sample-gradients", b].append(run)
        named = [b for b in BUDGETS if math.isclose(times, b, rel_tol=1e-6)]
        for b in named or ([] if equal else [round(times, 6)]):
            views["epochs", b].append(run)
    by_epochs = [{run.spec.run_id for run in some} for (view, _), some in views.items() if view == "epochs"]
    return {
        (view, b): some
        for (view, b), some in views.items()
        # Beside 1x, equal cost is a table of its own only if it compares what equal epochs do not.
        if view == "epochs" or b == 1 or not any({r.spec.run_id for r in some} <= ids for ids in by_epochs)
    }


def _table(
    runs: Sequence[Run],
    view: str,
    budget: float,
    unlike: str,
    tasks: Mapping[str, TaskInfo],
    optimizers: Mapping[str, Mapping[str, Param]],
    margin: float,
) -> Table:
    first = runs[0]
    info = tasks[first.spec.task.name]
    minimum = MINIMUM_SEEDS[info.tier]
    rows: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        rows[run.optimizer_key()].append(run)
    labels = {
        key: (entry_label(some[0].spec.optimizer, optimizers.get(some[0].spec.optimizer.name)), some[0])
        for key, some in rows.items()
    }
    suffixes = tails({key: (label, run.spec.optimizer.version) for key, (label, run) in labels.items()})
    named = sorted((labels[key][0] + suffixes[key], some) for key, some in rows.items())
    scores = {name: _by_seed(some) for name, some in named}
    failures = {name: sum(run.failed for run in some) for name, some in named}
    verdicts = classify(scores, failures, margin=margin, minimum=minimum)
    made = tuple(_row(name, some, info, verdicts[name]) for name, some in named)
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
        view=view,
        budget=budget,
        epochs=info.epochs(first.spec.task.params),
        rows=made,
        measures={name: tuple(sorted(examples[name])) for name in sorted(examples)},
        minimum_seeds=minimum,
        correlation=pairing_correlation(scores),
        matched_loss=max(losses) - min(losses) <= MATCHED * max(losses) if len(losses) > 1 else None,
        fingerprints=tuple(sorted({run.fingerprint for run in runs if not run.failed})),
    )


def _by_seed(runs: Sequence[Run]) -> dict[int, float]:
    scores = {run.seed: run.results.get("test_accuracy") for run in runs if not run.failed}
    return {seed: score for seed, score in scores.items() if score is not None}


def _row(name: str, runs: Sequence[Run], info: TaskInfo, verdict: Verdict) -> Row:
    completed = [run for run in runs if not run.failed]
    costs = [float(run.sample_gradients) for run in completed] or [
        run.planned_sample_gradients() for run in runs
    ]
    seconds = [run.train_s for run in completed if run.train_s is not None]
    prints = {run.fingerprint for run in completed}
    return Row(
        optimizer=name,
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
        cost=statistics.fmean(costs) / (info.epochs(runs[0].spec.task.params) * runs[0].n_train),
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
