"""Which results of a record a table shows: each column is declared here once, for every format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from suite.metric import LOSS, PERCENT, Description, Metric
from suite.report import text
from suite.schema import Record
from suite.sharpness import MEASURES
from suite.stats import Interval, Verdict, Word


@dataclass(frozen=True)
class Column:
    """One result: where it stands in a record, what it is called, and how it is written."""

    key: str
    """Its name in CSV and data: `test_accuracy`."""
    words: str
    """Its name for people: `test accuracy`."""
    metric: Metric
    read: Callable[[Record], float | None]
    """Its value in a record of a completed run; None where that was not finite."""

    @property
    def title(self) -> str:
        """Its name and unit."""
        return f"{self.words}, {self.metric.unit}" if self.metric.unit else self.words

    def score(self, value: float) -> float:
        """Return what tests are of: on the metric's scale, and higher is better."""
        return -self.metric.on_scale(value) if self.metric.better == "lower" else self.metric.on_scale(value)

    def plain(self, on_scale: float) -> float:
        """Return a number on the metric's scale as it is shown: in percent, and not as a logarithm."""
        value = self.unscaled(on_scale)
        return 100 * value if self.metric.unit == PERCENT else value

    def unscaled(self, on_scale: float) -> float:
        """Return the value that a number on the metric's scale stands for."""
        return 10.0**on_scale if self.metric.scale == "log" else on_scale

    def value(self, on_scale: float) -> str:
        """Write one number on the metric's scale."""
        plain = self.plain(on_scale)
        fraction = self.metric.unit == PERCENT and self.metric.scale == "linear"
        return f"{plain:.2f}" if fraction else text.number(plain)

    def interval(self, found: Interval | None) -> str:
        """Write a mean and the half-width of its interval, on a log scale as a factor."""
        if found is None:
            return "-"
        if self.metric.unit == PERCENT and self.metric.scale == "linear":
            return text.percent(found)
        if self.metric.scale == "linear":
            return text.measured(found)
        half = "" if found.half is None else f" ×/÷ {text.short(10**found.half)}"
        return f"{self.value(found.mean)}{half}"

    def ends(self, found: Interval | None) -> str:
        """Write the bounds of an interval."""
        if found is None:
            return "-"
        if found.low is None or found.high is None:
            return "none from one run"
        return f"{self.value(found.low)} to {self.value(found.high)}"

    def difference(self, found: float) -> str:
        """Write the size of a difference of two means, with its unit."""
        if self.metric.scale == "log":
            return f"{text.short(abs(found))} decades"
        return f"{100 * abs(found):.2f}" if self.metric.unit == PERCENT else text.short(abs(found))

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
    return tuple(_columns(task, adapted))


def _columns(task: Description, as_trained: set[str]) -> Iterator[Column]:
    first, scored = task.primary, task.scored
    splits = dict.fromkeys((scored, *task.evaluated))
    for split in splits:
        yield Column(f"{split}_{first.name}", _words(split, first.name), first, _result(split, first.name))
    for split in (split for split in splits if split in as_trained):
        words = "as trained" if len(task.tests) == 1 else f"{_words(split)} as trained"
        yield Column(f"{split}_{first.name}_as_trained", words, first, _before(split, first.name))
    for metric in task.metrics[1:]:
        yield Column(
            f"{scored}_{metric.name}", _words(scored, metric.name), metric, _result(scored, metric.name)
        )
    for fact in task.facts:
        yield Column(fact.name, _words(fact.name), fact, _fact(fact.name))


def _words(*names: str) -> str:
    return " ".join(names).replace("_", " ")


def _result(split: str, metric: str) -> Callable[[Record], float | None]:
    return lambda record: record.results[split].metrics.get(metric)


def _before(split: str, metric: str) -> Callable[[Record], float | None]:
    return lambda record: record.results[split].as_trained.get(metric)


def _fact(name: str) -> Callable[[Record], float | None]:
    return lambda record: record.facts.get(name)


@dataclass(frozen=True)
class RowColumn:
    """A column of the rows of the epochs, or of a profile: what a curve is of."""

    key: str
    words: str
    unit: str = ""
    measure: bool = False
    """Whether only those epochs have it at which the task measures."""

    @property
    def title(self) -> str:
        """Its name and unit."""
        return f"{self.words}, {self.unit}" if self.unit else self.words

    @property
    def percent(self) -> bool:
        """Whether it is a fraction, shown in percent on a linear axis from 0 to 100."""
        return self.unit == PERCENT

    def plain(self, value: float) -> float:
        """Return a value as it is shown."""
        return round(100 * value, 6) if self.percent else value

    def shown(self, value: float) -> str:
        """Write a value with its unit."""
        return f"{text.number(self.plain(value))}{f' {self.unit}' if self.unit else ''}"


SUBSET_LOSS = RowColumn("sharpness_train_loss", "training loss on the subset", measure=True)
LEARNING_RATE = RowColumn("lr", "learning rate")


def _row_column(split: str, metric: Metric) -> RowColumn:
    words = _words("training" if split == "train" else split, metric.name)
    return RowColumn(f"{split}_{metric.name}", words, metric.unit)


def curve_groups(task: Description, measures: Iterable[str] = MEASURES) -> dict[str, tuple[RowColumn, ...]]:
    """Return every column that the rows of a task may have, by the title of its chart."""
    splits = ["train", *([task.validation] if task.validation else [])]
    others = [metric for metric in task.metrics if metric.name != LOSS.name]
    groups = {
        _words(metric.name): tuple(_row_column(split, metric) for split in splits)
        for metric in (LOSS, *others)
    }
    for column in task.columns:
        groups[_words(column.name)] = (RowColumn(column.name, _words(column.name), column.unit),)
    for name in measures:
        column_of = RowColumn(name, f"sharpness ({name})", measure=True)
        groups[column_of.words] = (column_of,)
    return groups | {one.words: (one,) for one in (SUBSET_LOSS, LEARNING_RATE)}


def page_curves(task: Description, measures: Iterable[str] = MEASURES) -> dict[str, RowColumn]:
    """Return the columns whose curves stand with a table: minimised, compared, watched, measured."""
    groups = curve_groups(task, measures)
    chosen = [RowColumn("train_loss", "training loss")]
    if task.validation:
        chosen.append(_row_column(task.validation, task.primary))
    else:
        chosen.append(_row_column("train", task.primary))
    chosen += [group[0] for title, group in groups.items() if group[0].measure]
    chosen += [groups[_words(column.name)][0] for column in task.columns]
    return {column.key: column for column in chosen}
