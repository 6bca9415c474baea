"""What runs of this store took, and from that what others like them will take.

Only measured steps count: the costs in the records of finished runs, and the timings of unfinished ones.
A run is likened to those of the same task, device, precision and threads: of the same optimizer with the
same hyperparameters if there are any, else of the same optimizer, else of any, at the same cost in
sample-gradients.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

LIKE = ("hyperparameters", "optimizer", "task")
"""What a forecast's run has in common with those that were measured, closest first."""


@dataclass(frozen=True)
class Measured:
    """What a run took so far."""

    spec: Mapping[str, Any]
    epochs: float
    sample_gradients: int
    train_s: float
    evaluate_s: float
    measure_s: float | None
    """Of the sharpness measures, at the end and before; None where the run is not there yet."""
    n_train: int | None = None

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


def of_record(record: Mapping[str, Any]) -> Measured | None:
    """Read what a finished run took; None where its record does not tell."""
    cost = record.get("cost") or {}
    spec = record["spec"]
    if record.get("status") != "completed" or not cost.get("sample_gradients") or not cost.get("train_s"):
        return None
    return Measured(
        spec=spec,
        epochs=float(spec["epochs"]),
        sample_gradients=int(cost["sample_gradients"]),
        train_s=float(cost["train_s"]),
        evaluate_s=float(cost.get("evaluate_s") or 0.0),
        measure_s=float(cost.get("measure_s") or 0.0),
        n_train=cost.get("n_train"),
    )


class Forecast:
    """Expects of a run what was measured of those like it."""

    def __init__(self, measured: Iterable[Measured]) -> None:
        groups: dict[str, list[Measured]] = defaultdict(list)
        self._n_train: dict[str, int] = {}
        for one in measured:
            for key in one.keys:
                groups[key].append(one)
            if one.n_train:
                self._n_train[_data_key(one.spec)] = one.n_train
        self._rates = {key: _rate(some) for key, some in groups.items()}

    def seconds(self, spec: Mapping[str, Any], sample_gradients: int | None = None) -> Guess | None:
        """Return the seconds of the whole run; None where nothing like it was timed.

        Without its number of sample-gradients it is taken to cost what those like it cost an epoch.
        """
        for like in LIKE:
            rate = self._rates.get(_key(spec, like))
            if rate is not None:
                n = rate.gradients * spec["epochs"] if sample_gradients is None else sample_gradients
                measure_s = rate.measure_s * _measurings(spec)
                return Guess(rate.train_s * n + rate.evaluate_s * spec["epochs"] + measure_s, like)
        return None

    def measure_s(self, spec: Mapping[str, Any]) -> float:
        """Return the seconds of all measures of such a run; 0 where none was timed."""
        rates = (self._rates.get(_key(spec, like)) for like in LIKE)
        once_s = next((rate.measure_s for rate in rates if rate is not None and rate.measure_s), 0.0)
        return once_s * _measurings(spec)

    def n_train(self, spec: Mapping[str, Any]) -> int | None:
        """Return how many examples a finished run of that task on that data trained on."""
        return self._n_train.get(_data_key(spec))


def _rate(some: list[Measured]) -> _Rate:
    measures = [one.measure_s / _measurings(one.spec) for one in some if one.measure_s is not None]
    return _Rate(
        train_s=fmean(one.train_s / one.sample_gradients for one in some),
        gradients=fmean(one.sample_gradients / one.epochs for one in some),
        evaluate_s=fmean(one.evaluate_s / one.epochs for one in some),
        measure_s=fmean(measures) if measures else 0.0,
    )


def _measurings(spec: Mapping[str, Any]) -> int:
    """Return how often such a run measures: once, unless its task has a parameter for more along training.

    The last of them takes what is left of the measures, too, which is counted as if each did.
    """
    every = spec["task"]["params"].get("measure_every")
    if not isinstance(every, int) or every < 1:
        return 1
    return max(1, math.ceil(float(spec["epochs"]) / every))


def _key(spec: Mapping[str, Any], like: str) -> str:
    task, optimizer = spec["task"], spec["optimizer"]
    machine = [spec["precision"], spec["device"], spec["threads"], spec["compile"], spec.get("ranks", 1)]
    same: list[Any] = [_entry(task), spec["data"], *machine]
    if like != "task":
        same.append(optimizer["name"])
    if like == "hyperparameters":
        same.append(_entry(optimizer))
    return repr(same)


def _data_key(spec: Mapping[str, Any]) -> str:
    return repr([_entry(spec["task"]), spec["data"]])


def _entry(entry: Mapping[str, Any]) -> list[Any]:
    """What tells an entry from others; as JSON it would take three times as long, for every run there is."""
    return [entry["name"], sorted(entry["params"].items())]
