"""What runs of this store took, and from that what others like them will take.

Only measured steps count: the costs in the records of finished runs, and the timings of unfinished ones.
A run is likened to those of the same task, device, precision and threads: of the same optimizer with the
same hyperparameters if there are any, else of the same optimizer, else of any, at the same cost in
sample-gradients. How often the runs of a task measure sharpness is seen in the rows of those that did.
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
"""What a forecast's run has in common with those that were measured, closest first."""

_LOOK = "sharpness_train_loss"
"""Column of a row at whose epoch the sharpness was measured, whichever of the measures were taken."""


@dataclass(frozen=True)
class Measured:
    """What a run took so far."""

    spec: RunSpec
    epochs: float
    sample_gradients: float
    train_s: float
    evaluate_s: float
    measure_s: float | None
    """Of the sharpness measures, at the end and before; None where the run is not there yet."""
    n_train: int | None = None
    measure_every: int = 0
    """Epochs from one measuring to the next along training; 0 where none was seen."""

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What it has in common with others, for each of `LIKE`."""
        return tuple(_key(self.spec, like) for like in LIKE)


@dataclass(frozen=True)
class Guess:
    """The seconds of a whole run, and how much it has in common with those that were measured."""

    seconds: float
    like: str


@dataclass(frozen=True)
class _Rate:
    train_s: float  # a sample-gradient
    gradients: float  # an epoch
    evaluate_s: float  # an epoch
    measure_s: float  # a measuring


class Finished:
    """Reads what finished runs took; how often the runs of a task measure is read once, of one of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._every: dict[str, int] = {}

    def __call__(self, record: Record) -> Measured | None:
        """Return what the run took; None where its record does not tell."""
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
    """Return the epochs from one measuring to the next, as the rows of a run show them; 0 where none did."""
    return next((int(row["epoch"]) for row in rows if _LOOK in row), 0)


class Forecast:
    """Expects of a run what was measured of those like it."""

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
        """Return the seconds of the whole run; None where nothing like it was timed.

        Without its number of sample-gradients it is taken to cost what those like it cost an epoch.
        """
        for like in LIKE:
            rate = self._rates.get(_key(spec, like))
            if rate is not None:
                n = rate.gradients * spec.epochs if sample_gradients is None else sample_gradients
                measure_s = rate.measure_s * self._measurings(spec)
                return Guess(rate.train_s * n + rate.evaluate_s * spec.epochs + measure_s, like)
        return None

    def measure_s(self, spec: RunSpec) -> float:
        """Return the seconds of all measures of such a run; 0 where none was timed."""
        rates = (self._rates.get(_key(spec, like)) for like in LIKE)
        once_s = next((rate.measure_s for rate in rates if rate is not None and rate.measure_s), 0.0)
        return once_s * self._measurings(spec)

    def n_train(self, spec: RunSpec) -> int | None:
        """Return how many examples a finished run of that task on that data trained on."""
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
        """Return how often such a run measures: once, unless runs of its task measure along training.

        The last of them takes what is left of the measures, too, which is counted as if each did.
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
    """What tells an entry from others; as JSON it would take three times as long, for every run there is."""
    return [entry.name, sorted(entry.params.items())]
