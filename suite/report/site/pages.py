"""The static pages, rendered by Jinja templates that escape all data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from suite import __version__
from suite.records.schema import Record
from suite.report import notes, text
from suite.report.leaderboard import Leaderboard, Table
from suite.report.site.groups import Group
from suite.report.site.plots import CurveTable, Plot
from suite.report.site.run_pages import RunData
from suite.report.stats import Interval
from suite.report.verdicts import Verdict, Word
from suite.report.views import REPORT_VIEWS
from suite.terminal.table import plural

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class View:
    """One table on the page of its task, with its charts."""

    table: Table
    slug: str
    """The slug of its page."""
    heading: str
    plots: tuple[Plot, ...]
    curves: tuple[CurveTable, ...]

    @property
    def file(self) -> str:
        """The start of the file names of its charts."""
        seconds = "" if self.table.seconds is None else f"-{self.table.seconds:.3g}-s"
        return f"{self.slug}-{self.table.view}-{self.table.budget:g}x{seconds}"


@dataclass(frozen=True)
class Strip:
    """Position of an interval on an axis from 0 to 100 that all rows of a table share."""

    low: float
    mean: float
    high: float


def index(board: Leaderboard, groups: Sequence[Group], records: Mapping[str, Record]) -> str:
    """Render the first page, with all tables."""
    shown = {run_id for group in groups for ids in group.runs().values() for run_id in ids}
    return render(
        "index.html.j2",
        root="",
        board=board,
        groups=groups,
        views=[view for view in REPORT_VIEWS if any(table.view == view for table in board.tables)],
        choices={
            "task": _sorted(group.table.task for group in groups),
            "optimizer": _sorted(_entry(row.entry) for table in board.tables for row in table.rows),
            "tier": _sorted(group.table.tier for group in groups),
            "protocol": _sorted(group.table.protocol for group in groups),
        },
        n_runs=len(shown),
        n_failed=sum(records[run_id].failed for run_id in shown),
        legend=_legend(),
        left_out=sorted(records.keys() - shown),
    )


def task(
    group: Group,
    views: Sequence[View],
    board: Leaderboard,
    commands: Sequence[str],
    data: Mapping[str, RunData],
) -> str:
    """Render the page of one task."""
    return render(
        "task.html.j2",
        root="../",
        group=group,
        views=views,
        board=board,
        commands=commands,
        data=data,
        without_curves=not any(some.rows or some.stored for some in data.values()),
    )


def render(template: str, **context: Any) -> str:
    """Render one template; `root` in the context is the relative path from the page to the site's root."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("suite.report.site", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": text.plain,
        "number": text.number,
        "measured": text.measured,
        "plural": plural,
        "initial": lambda words: words[:1].upper() + words[1:],
        "heading": lambda title: title.replace(", ", ",\u00a0"),
        "entry": _entry,
        "strips": _strips,
        "notes": _notes,
        "of_execution": notes.of_execution,
        "train_seconds": notes.train_seconds,
    }
    environment.globals |= {
        "VIEW_TITLES": text.VIEW_TITLES,
        "UNTUNED": text.UNTUNED,
        "version": __version__,
    }
    return environment


def _legend() -> list[tuple[Verdict, str, str]]:
    meanings = {
        Word.BEST: "the best mean",
        Word.TIE: "equivalent to it within the margin of the table",
        Word.WORSE: "significantly worse, by so much",
        Word.UNRESOLVED: "neither was shown; with the difference that so many seeds would find 4 times in 5",
        Word.UNDECIDED: "too few seeds for any test",
        Word.FAILED: "a failed run keeps the row out of the best set",
    }
    return [(Verdict(word), text.WORDS[word], meaning) for word, meaning in meanings.items()]


def _entry(label: str) -> str:
    return label.partition("[")[0].partition("@")[0].partition("#")[0]


def _notes(table: Table) -> list[str]:
    return list(notes.of_table(table))


def _sorted(names: Any) -> list[str]:
    return sorted(set(names), key=lambda name: (name.lower(), name))


def _strips(table: Table) -> dict[str, Strip]:
    """Return the position of each row's score interval on one axis, by row."""
    key = table.score.key
    found = {row.optimizer: row.values[key] for row in table.rows if key in row.values}
    if not found:
        return {}
    ends = [end for interval in found.values() for end in _ends(interval)]
    low, width = min(ends), max(ends) - min(ends)

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / width, 2) if width else 50.0

    return {
        name: Strip(place(_ends(interval)[0]), place(interval.mean), place(_ends(interval)[-1]))
        for name, interval in found.items()
    }


def _ends(interval: Interval) -> tuple[float, ...]:
    if interval.low is None or interval.high is None:
        return (interval.mean,)
    return (interval.low, interval.high)
