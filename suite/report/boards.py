"""From records to leaderboards in every format: the functions behind `steppe leaderboard`."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.entries.registry import Registry
from suite.errors import unknown
from suite.publishing.published import read_records
from suite.records.schema import Record
from suite.report.commands import run_commands
from suite.store.folders import Store

if TYPE_CHECKING:
    from suite.report.leaderboard import Leaderboard
    from suite.report.site import Material

TEXT_FORMATS = ("md", "csv", "tex")

_WHY = {
    "epochs": "no run has the epochs of a task's budget.",
    "sample-gradients": "no run costs what a task's budget costs at one gradient a step.",
    "seconds": "no two rows have a median training time near each other on one machine, one of them with one "
    "gradient a step at the task's epochs.",
}
"""By view, the reason why it has no table although another view has one."""


def load_records(
    files: Sequence[Path | str] = (),
    *,
    store: Store | None = None,
    tasks: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> list[Record]:
    """Read the records of a store and of published files.

    Args:
        files: published files; each is checked as by `steppe validate`.
        store: a store, whose records come first.
        tasks: globs of task names; empty for all.
        optimizers: globs of optimizer names; empty for all.
        say: called with a line about each damaged record of the store; these are left out.

    Raises:
        SteppeError: a published file is unreadable or invalid.

    """
    published = [record for path in files for record in read_records(Path(path))]
    found = store.index() if store is not None else None
    for line in found.skipped if found is not None else ():
        say(line)

    def matches(name: str, globs: Sequence[str]) -> bool:
        return not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)

    return [
        record
        for record in (*(found or ()), *published)
        if matches(record.spec.task.name, tasks) and matches(record.spec.optimizer.name, optimizers)
    ]


def leaderboard(
    records: Sequence[Record], registry: Registry, *, command: str = "", view: str | None = None
) -> Leaderboard:
    """Sort records into tables, with intervals and verdicts.

    Args:
        records: of any tasks, optimizers and seeds.
        registry: the entries; labels leave out hyperparameters at their defaults.
        command: the command that reproduces the leaderboard, which is written at its end.
        view: one of `suite.report.views.REPORT_VIEWS`; None for all.

    """
    from suite.report.leaderboard import build
    from suite.report.text import VIEW_TITLES

    board = build(records, *declared(registry), command)
    if view is None:
        return board
    tables = tuple(table for table in board.tables if table.view == view)
    if tables or not board.tables:
        return replace(board, tables=tables)
    sentence = f"No table at {VIEW_TITLES[view]}: {_WHY[view]}"
    return replace(board, tables=tables, left_out=(*board.left_out, sentence))


def declared(registry: Registry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters that tasks and optimizers declare, by name."""
    tasks = {name: found.entry.params for name, found in registry.tasks.items()}
    return tasks, {name: found.entry.params for name, found in registry.optimizers.items()}


def render(board: Leaderboard, format: str, records: Sequence[Record], registry: Registry) -> str:
    """Write a leaderboard in one of `TEXT_FORMATS`; Markdown ends with the commands of its records."""
    from suite.report import csv_, latex, markdown

    if format not in TEXT_FORMATS:
        raise unknown("format", format, TEXT_FORMATS)
    if format == "csv":
        return csv_.render(board)
    if format == "tex":
        return latex.render(board)
    origin = run_commands([record.spec for record in records], registry)
    commands = "".join(f"{line}\n" for line in origin)
    return markdown.render(board) + (f"\nIts records are made by\n\n```sh\n{commands}```\n" if origin else "")


def material(records: Sequence[Record], registry: Registry, store: Store | None) -> Material:
    """Collect the data that a site or figures need besides the tables; curves and events are in the store."""
    from suite.report.site import Material
    from suite.report.strata import once

    return Material(once(records), store, registry)


def write_site(folder: Path, board: Leaderboard, material: Material) -> Path:
    """Write the static site of a leaderboard into a folder; return its first page.

    Raises SteppeError if the folder contains other files or is not writable.
    """
    from suite.report import site

    return site.write(folder, board, material)


def write_figures(folder: Path, board: Leaderboard, material: Material) -> list[Path]:
    """Write every chart of a leaderboard into a folder as SVG and PNG; return their paths."""
    from suite.report import figures
    from suite.report.site.plots import table_curves
    from suite.report.site.run_pages import read

    def rows(run_id: str) -> Sequence[Mapping[str, Any]]:
        return read(material, run_id).rows

    return figures.write(folder, board, [table_curves(table, rows) for table in board.tables])
