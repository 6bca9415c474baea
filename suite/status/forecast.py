"""Forecasts the time of a run from the times of similar runs in the store.

Only measured times count: the costs in the records of finished runs, and the timings of unfinished ones.
Similar runs have the same task, data set, device, precision, threads, ranks and `compile`. Among these, runs
with the same optimizer and hyperparameters come first, then runs with the same optimizer, then all, scaled by
the cost in sample-gradients. The rows of a task's runs show how often they measure sharpness.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from suite.records.schema import Record
from suite.spec import EntryRef, RunSpec
from suite.store.folders import Store

LIKE = ("hyperparameters", "optimizer", "task")
"""What a run has in common with the measured runs behind its forecast, closest first."""

_LOOK = "sharpness_train_loss"
"""Column of the rows whose epoch includes a sharpness measurement, of whichever measures."""


@dataclass(frozen=True)
class Measured:
    """The cost of a run so far, with times in seconds."""

    spec: RunSpec
    epochs: float
    sample_gradients: float
    train_s: float
    evaluate_s: float
    measure_s: float | None
    """Seconds of all sharpness measurements, along training and at the end; None for unfinished runs."""
    n_train: int | None = None
    measure_every: int = 0
    """Epochs between sharpness measurements along training; 0 if there was none."""

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key that similar runs share, for each level of `LIKE`."""
        return tuple(_key(self.spec, like) for like in LIKE)


@dataclass(frozen=True)
class Guess:
    """Forecast of the seconds of a whole run, and the level of `LIKE` that it rests on."""

    seconds: float
    like: str


@dataclass(frozen=True)
class _Rate:
    train_s: float  # per sample-gradient
    gradients: float  # per epoch
    evaluate_s: float  # per epoch
    measure_s: float  # per sharpness measurement


class Finished:
    """Reads the cost of finished runs; the measurement period of a task and data set comes from one run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._every: dict[str, int] = {}

    def __call__(self, record: Record) -> Measured | None:
        """Return the cost of the run; None if it failed or its record lacks the cost."""
        spec, cost = record.spec, record.cost
        if record.failed or not cost.sample_gradients or not cost.train_s:
            return None
        key = _data_key(spec)
        if key not in self._every:
            self._every[key] = period(self._store.run(record.run_id).metrics())
        return Measured(
            spec=spec,
            epochs=spec.epochs,
            sample_gradients=cost.sample_gradients,
            train_s=cost.train_s,
            evaluate_s=cost.evaluate_s,
            measure_s=cost.measure_s,
            n_train=cost.n_train,
            measure_every=self._every[key],
        )


def period(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the epochs between sharpness measurements, from the rows of a run; 0 if there was none."""
    return next((int(row["epoch"]) for row in rows if _LOOK in row), 0)


class Forecast:
    """Forecasts the time of a run from measured runs that are similar to it."""

    def __init__(self, measured: Iterable[Measured]) -> None:
        groups: dict[str, list[Measured]] = defaultdict(list)
        self._n_train: dict[str, int] = {}
        self._every: dict[str, int] = defaultdict(int)
        for one in measured:
            for key in one.keys:
                groups[key].append(one)
            data = _data_key(one.spec)
            self._every[data] = max(self._every[data], one.measure_every)
            if one.n_train:
                self._n_train[data] = one.n_train
        self._rates = {key: self._rate(some) for key, some in groups.items()}

    def seconds(self, spec: RunSpec, sample_gradients: float | None = None) -> Guess | None:
        """Return the seconds of the whole run; None if no similar run was timed.

        Without `sample_gradients`, the cost per epoch is that of similar runs.
        """
        for like in LIKE:
            rate = self._rates.get(_key(spec, like))
            if rate is not None:
                n = rate.gradients * spec.epochs if sample_gradients is None else sample_gradients
                measure_s = rate.measure_s * self._measurings(spec)
                return Guess(rate.train_s * n + rate.evaluate_s * spec.epochs + measure_s, like)
        return None

    def measure_s(self, spec: RunSpec) -> float:
        """Return the seconds of all sharpness measurements of a run; 0 if none was timed."""
        rates = (self._rates.get(_key(spec, like)) for like in LIKE)
        once_s = next((rate.measure_s for rate in rates if rate is not None and rate.measure_s), 0.0)
        return once_s * self._measurings(spec)

    def n_train(self, spec: RunSpec) -> int | None:
        """Return the number of training examples in finished runs of the same task on the same data."""
        return self._n_train.get(_data_key(spec))

    def _rate(self, some: list[Measured]) -> _Rate:
        measures = [one.measure_s / self._measurings(one.spec) for one in some if one.measure_s is not None]
        return _Rate(
            train_s=fmean(one.train_s / one.sample_gradients for one in some),
            gradients=fmean(one.sample_gradients / one.epochs for one in some),
            evaluate_s=fmean(one.evaluate_s / one.epochs for one in some),
            measure_s=fmean(measures) if measures else 0.0,
        )

    def _measurings(self, spec: RunSpec) -> int:
        """Return the number of sharpness measurements of a run: one, unless its task measures along training.

        The last one also runs the remaining measures; the forecast treats all as equally long.
        """
        every = self._every.get(_data_key(spec), 0)
        return max(1, math.ceil(spec.epochs / every)) if every else 1


def _key(spec: RunSpec, like: str) -> str:
    machine = [spec.precision, spec.device, spec.threads, spec.compile, spec.ranks]
    same: list[Any] = [_entry(spec.task), spec.data, *machine]
    if like != "task":
        same.append(spec.optimizer.name)
    if like == "hyperparameters":
        same.append(_entry(spec.optimizer))
    return repr(same)


def _data_key(spec: RunSpec) -> str:
    return repr([_entry(spec.task), spec.data])


def _entry(entry: EntryRef) -> list[Any]:
    """Return a key of an entry. JSON would take three times as long, and every run of the store needs it."""
    return [entry.name, sorted(entry.params.items())]
