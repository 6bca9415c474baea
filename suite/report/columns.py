"""The columns of tables and the curves of charts, declared once for every format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from suite.metric import LOSS, PERCENT, Description, Metric
from suite.records.schema import Record, SplitResult
from suite.report import text
from suite.report.stats import Interval
from suite.report.verdicts import Verdict, Word
from suite.sharpness import MEASURES


@dataclass(frozen=True)
class _Named:
    """A quantity of a task: its names, its metric and its number format."""

    key: str
    """Name in CSV and data: `test_recall`."""
    words: str
    """Name in text: `test recall`."""
    metric: Metric

    @property
    def unit(self) -> str:
        """The unit; empty if there is none."""
        return text.plain(self.metric.unit)

    @property
    def title(self) -> str:
        """Name and unit."""
        words = text.plain(self.words)
        return f"{words}, {self.unit}" if self.unit else words

    @property
    def percent(self) -> bool:
        """Whether it is a fraction, shown in percent on a linear axis."""
        return self.metric.unit == PERCENT and self.metric.scale == "linear"

    def unscaled(self, on_scale: float) -> float:
        """Return the value of a number on the metric's scale."""
        if self.metric.scale == "linear":
            return on_scale
        return math.pow(10.0, max(-_DECADES, min(on_scale, _DECADES)))

    def as_shown(self, value: float) -> float:
        """Return a value as displayed: in percent, and at least the floor of a log scale."""
        value = value if self.metric.floor is None else max(value, self.metric.floor)
        return 100 * value if self.metric.unit == PERCENT else value

    def with_unit(self, number: str) -> str:
        """Append the unit to a number."""
        return f"{number} {self.unit}" if self.unit else number


_DECADES = 150
"""Limit of intervals on a log scale, beyond which bounds would overflow floating point."""


@dataclass(frozen=True)
class Column(_Named):
    """One result: how to read it from a record, its names and its number format.

    Methods take numbers on the metric's scale, as means and intervals are.
    """

    read: Callable[[Record], float | None] = field(compare=False)
    """Return the value from the record of a completed run; None if it was not finite."""
    counted: Callable[[Record], bool] = field(default=lambda record: False, compare=False)
    """Whether a record stores the correctness of examples that the value counts."""

    def score(self, value: float) -> float:
        """Return the score that tests compare: on the metric's scale, higher is better."""
        return -self.metric.on_scale(value) if self.metric.better == "lower" else self.metric.on_scale(value)

    def plain(self, on_scale: float) -> float:
        """Return a number as displayed: in percent, and not as a logarithm."""
        return self.as_shown(self.unscaled(on_scale))

    def value(self, on_scale: float) -> str:
        """Write one number."""
        plain = self.plain(on_scale)
        return f"{plain:.2f}" if self.percent else text.number(plain, 4)

    def interval(self, found: Interval | None) -> str:
        """Write a mean and the half-width of its interval, on a log scale as a factor."""
        if found is None:
            return "-"
        if self.percent:
            return text.percent(found)
        if self.metric.scale == "linear":
            return text.measured(found)
        return text.geometric(self.plain(found.mean), found.half)

    def ends(self, found: Interval | None) -> str:
        """Write the bounds of an interval."""
        if found is None:
            return "-"
        if found.low is None or found.high is None:
            return "none from one run"
        return f"{self.value(found.low)} to {self.value(found.high)}"

    def difference(self, found: float) -> str:
        """Write the size of a difference of two means: in points of a percentage, in decades."""
        if self.metric.scale == "log":
            return f"{text.number(abs(found), 2)} decades"
        return f"{100 * abs(found):.2f}" if self.metric.unit == PERCENT else text.number(abs(found), 2)

    def verdict(self, found: Verdict) -> str:
        """Write a verdict in words, with the minimum detectable difference if it is unresolved."""
        word = text.WORDS[found.word]
        if found.word is Word.UNRESOLVED and found.detectable is not None:
            return f"{word} (could detect {self.difference(found.detectable)})"
        if found.word is Word.WORSE and found.difference is not None:
            small = " (within the margin)" if found.equivalent else ""
            return f"{word} by {self.difference(found.difference)}{small}"
        return word


def columns(task: Description, records: Iterable[Record]) -> tuple[Column, ...]:
    """Return the columns of a table of one task; rows are compared by the first."""
    adapted = {split for record in records for split, result in record.results.items() if result.as_trained}
    taken = {*MEASURES, "train_loss_on_subset"}
    found = []
    for column in _columns(task, adapted):
        key = column.key
        while key in taken:  # a fact may have the name of a measure, or of a split and a metric
            key += "_"
        taken.add(key)
        found.append(replace(column, key=key))
    return tuple(found)


def _columns(task: Description, as_trained: set[str]) -> Iterator[Column]:
    first, scored = task.primary, task.scored
    splits = dict.fromkeys((scored, *task.evaluated))
    for split in splits:
        yield _of_split(split, first)
    for split in (split for split in splits if split in as_trained):
        words = "as trained" if len(task.tests) == 1 else f"{_words(split)} as trained"
        yield Column(f"{split}_{first.name}_as_trained", words, first, _before(split, first.name))
    for metric in task.metrics[1:]:
        yield _of_split(scored, metric)
    for fact in task.facts:
        yield Column(fact.name, _words(fact.name), fact, _fact(fact.name))


def _words(*names: str) -> str:
    return " ".join("training" if name == "train" else name for name in names).replace("_", " ")


def _of_split(split: str, metric: Metric) -> Column:
    name = metric.name
    return Column(
        f"{split}_{name}",
        _words(split, name),
        metric,
        lambda record: _result(record, split).metrics.get(name),
        lambda record: name in _result(record, split).right,
    )


def _before(split: str, metric: str) -> Callable[[Record], float | None]:
    return lambda record: _result(record, split).as_trained.get(metric)


def _result(record: Record, split: str) -> SplitResult:
    return record.results.get(split, _NOTHING)


_NOTHING = SplitResult(1, {})
"""Stands for a split that a record lacks: records of a store are checked for types only."""


def _fact(name: str) -> Callable[[Record], float | None]:
    return lambda record: record.facts.get(name)


@dataclass(frozen=True)
class RowColumn(_Named):
    """A column of the epochs' metrics, or a profile: the quantity of a curve."""

    measure: bool = False
    """Whether it exists only at epochs at which the task measures."""

    def plain(self, value: float) -> float:
        """Return a value as displayed, without digits of floating-point error."""
        return round(self.as_shown(value), 6) if self.percent else self.as_shown(value)

    def shown(self, value: float) -> str:
        """Write a value with its unit."""
        return self.with_unit(text.number(self.plain(value)))


SUBSET_LOSS = RowColumn("sharpness_train_loss", "training loss on the subset", LOSS, measure=True)
LEARNING_RATE = RowColumn("lr", "learning rate", Metric("lr", "neither"))


def row_column(split: str, metric: Metric) -> RowColumn:
    """Return the column of a metric on a split along training."""
    return RowColumn(f"{split}_{metric.name}", _words(split, metric.name), metric)


def curve_groups(task: Description, measures: Iterable[str] = MEASURES) -> dict[str, tuple[RowColumn, ...]]:
    """Return every column that the metrics of a task may have, by the title of its chart."""
    splits = ["train", *([task.validation] if task.validation else [])]
    loss = next((metric for metric in task.metrics if metric.name == LOSS.name), LOSS)
    others = [metric for metric in task.metrics if metric is not loss]
    found = [
        (_words(metric.name), tuple(row_column(split, metric) for split in splits))
        for metric in (loss, *others)
    ]
    found += [
        (_words(column.name), (RowColumn(column.name, _words(column.name), column),))
        for column in task.columns
    ]
    measured = [RowColumn(name, f"sharpness ({name})", Metric(name, "neither"), True) for name in measures]
    found += [(one.words, (one,)) for one in (*measured, SUBSET_LOSS, LEARNING_RATE)]
    titles: dict[str, tuple[RowColumn, ...]] = {}
    for title, group in found:
        while title in titles:  # a column of the task may have the name of a metric
            title += " (own)"
        titles[title] = group
    return titles


def page_curves(task: Description, measures: Iterable[str] = MEASURES) -> dict[str, RowColumn]:
    """Return the columns drawn with a table: training loss, validation metric, measures, the task's own."""
    known = {column.key: column for group in curve_groups(task, measures).values() for column in group}
    watched = row_column(task.validation or "train", task.primary)
    keys = ["train_loss", watched.key, *(key for key, column in known.items() if column.measure)]
    return {key: known[key] for key in (*keys, *(column.name for column in task.columns))}
