"""Which results of a record a table shows: each column is declared here once, for every format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from suite.metric import LOSS, PERCENT, Description, Metric
from suite.records.schema import Record, SplitResult
from suite.report import text
from suite.report.stats import Interval, Verdict, Word
from suite.sharpness import MEASURES


@dataclass(frozen=True)
class _Named:
    """A number of a task, its names, and how it is written."""

    key: str
    """Its name in CSV and data: `test_recall`."""
    words: str
    """Its name for people: `test recall`."""
    metric: Metric

    @property
    def unit(self) -> str:
        """What stands behind its numbers; empty where they have no unit."""
        return text.plain(self.metric.unit)

    @property
    def title(self) -> str:
        """Its name and unit."""
        words = text.plain(self.words)
        return f"{words}, {self.unit}" if self.unit else words

    @property
    def percent(self) -> bool:
        """Whether it is a fraction, shown in percent on a linear axis."""
        return self.metric.unit == PERCENT and self.metric.scale == "linear"

    def unscaled(self, on_scale: float) -> float:
        """Return the value that a number on the metric's scale stands for."""
        if self.metric.scale == "linear":
            return on_scale
        return math.pow(10.0, max(-_DECADES, min(on_scale, _DECADES)))

    def as_shown(self, value: float) -> float:
        """Return a value as it is shown: in percent, and no smaller than what a log scale resolves."""
        value = value if self.metric.floor is None else max(value, self.metric.floor)
        return 100 * value if self.metric.unit == PERCENT else value

    def with_unit(self, number: str) -> str:
        """Put the unit behind a number."""
        return f"{number} {self.unit}" if self.unit else number


_DECADES = 150
"""Where an interval on a log scale is cut off: soon after, its bounds are no floating-point numbers."""


@dataclass(frozen=True)
class Column(_Named):
    """One result: where it stands in a record, what it is called, and how it is written.

    Numbers of these methods are on the metric's scale, as means and intervals are.
    """

    read: Callable[[Record], float | None] = field(compare=False)
    """Its value in a record of a completed run; None where that was not finite."""
    counted: Callable[[Record], bool] = field(default=lambda record: False, compare=False)
    """Whether a record holds the examples that its value counts."""

    def score(self, value: float) -> float:
        """Return what tests are of: on the metric's scale, and higher is better."""
        return -self.metric.on_scale(value) if self.metric.better == "lower" else self.metric.on_scale(value)

    def plain(self, on_scale: float) -> float:
        """Return a number as it is shown: in percent, and not as a logarithm."""
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
        """Say a verdict in words, with the minimum detectable difference where nothing could be shown."""
        word = text.WORDS[found.word]
        if found.word is Word.UNRESOLVED and found.detectable is not None:
            return f"{word} (could detect {self.difference(found.detectable)})"
        if found.word is Word.WORSE and found.difference is not None:
            small = " (within the margin)" if found.equivalent else ""
            return f"{word} by {self.difference(found.difference)}{small}"
        return word


def columns(task: Description, records: Iterable[Record]) -> tuple[Column, ...]:
    """Return the columns of a table of one task, the one that rows are compared by first."""
    adapted = {split for record in records for split, result in record.results.items() if result.as_trained}
    taken = {*MEASURES, "train_loss_on_subset"}
    found = []
    for column in _columns(task, adapted):
        key = column.key
        while key in taken:  # a fact may be called as a measure is, or as a split with a metric
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
"""Of a split that a record lacks: those of a store are checked for their types only."""


def _fact(name: str) -> Callable[[Record], float | None]:
    return lambda record: record.facts.get(name)


@dataclass(frozen=True)
class RowColumn(_Named):
    """A column of the rows of the epochs, or of a profile: what a curve is of."""

    measure: bool = False
    """Whether only those epochs have it at which the task measures."""

    def plain(self, value: float) -> float:
        """Return a value as it is shown, without the digits that only floating point makes."""
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
    """Return every column that the rows of a task may have, by the title of its chart."""
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
        while title in titles:  # a column of the task's own may be called as a metric is
            title += " (own)"
        titles[title] = group
    return titles


def page_curves(task: Description, measures: Iterable[str] = MEASURES) -> dict[str, RowColumn]:
    """Return the columns whose curves stand with a table: minimised, compared, watched, measured."""
    known = {column.key: column for group in curve_groups(task, measures).values() for column in group}
    watched = row_column(task.validation or "train", task.primary)
    keys = ["train_loss", watched.key, *(key for key, column in known.items() if column.measure)]
    return {key: known[key] for key in (*keys, *(column.name for column in task.columns))}
