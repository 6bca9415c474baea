"""Builds the site: static pages, and data of runs and charts as scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from suite.records.schema import Record
from suite.report import csv_, latex, markdown, text
from suite.report.commands import run_commands
from suite.report.leaderboard import Leaderboard, names
from suite.report.site import pages, plots
from suite.report.site.folder import INDEX, SiteFolder, site_folder
from suite.report.site.groups import Group, groups, pages_of_runs
from suite.report.site.run_pages import Material, RunData, read, score_of, shown
from suite.store.lines import finite

_ASSETS = ("style.css", "theme.js", "site.js", "charts.js", "runs.js", "run.js", "compare.js", "icon.svg")


def write(root: Path, board: Leaderboard, material: Material) -> Path:
    """Write the whole site into a folder and return its first page; SteppeError if the folder is refused."""
    with site_folder(root) as folder:
        _fill(folder, board, material, _Progress(len(material.records)))
    return root / INDEX


class _Progress:
    """Prints the progress of the build on stderr every 2 s."""

    def __init__(self, total: int, every_s: float = 2.0) -> None:
        self._total, self._done, self._every = total, 0, every_s
        self._next = time.monotonic() + every_s

    def run(self) -> None:
        self._done += 1
        if time.monotonic() >= self._next:
            print(f"steppe: the site: {self._done} of {self._total} runs", file=sys.stderr, flush=True)
            self._next = time.monotonic() + self._every


def _fill(folder: SiteFolder, board: Leaderboard, material: Material, progress: _Progress) -> None:
    found = groups(board.tables)
    entries = names(board)
    on_page = pages_of_runs(found)
    for group in found:
        data = [read(material, run_id) for ids in group.runs().values() for run_id in ids]
        for some in data:
            _write_run(folder, some, material)
            progress.run()
        _write_group(folder, group, board, {some.run_id: some for some in data}, entries, material)
    for run_id in material.records.keys() - on_page.keys():
        _write_run(folder, read(material, run_id), material)
        progress.run()
    folder.write("data/runs.js", plots.script("known", _known(found, on_page, material.records)))
    tasks = {plots.kind(record.task): record.task for record in material.records.values()}
    folder.write("data/run-charts.js", plots.script("runCharts", finite(plots.of_runs(tasks.values()))))
    folder.write("data/themes.js", plots.script("themes", plots.themes()))
    for page in ("run", "compare"):
        folder.write(f"{page}.html", pages.render(f"{page}.html.j2", root=""))
    folder.write(INDEX, pages.index(board, found, material.records))
    write_assets(folder)


def _write_run(folder: SiteFolder, data: RunData, material: Material) -> None:
    content = finite(shown(data, material.registry))
    folder.write(f"data/runs/{data.run_id}.js", plots.script(f"run_{data.run_id}", content))


def _write_group(
    folder: SiteFolder,
    group: Group,
    board: Leaderboard,
    data: Mapping[str, RunData],
    entries: Sequence[str],
    material: Material,
) -> None:
    views = []
    specs: dict[str, Any] = {}
    for at, table in enumerate(group.tables):
        found = plots.table_curves(table, lambda run_id: data[run_id].rows)
        charts = [replace(plot, name=f"t{at}-{plot.name}") for plot in plots.of_table(table, found, entries)]
        specs |= {plot.name: plots.for_page(plot) for plot in charts}
        views.append(
            pages.View(
                table, group.slug, group.headings[at], tuple(charts), tuple(plots.numbers(table, found))
            )
        )
    commands = run_commands([some.record.spec for some in data.values()], material.registry)
    folder.write(f"data/charts/{group.slug}.js", plots.script("charts", finite(specs)))
    folder.write(group.page, pages.task(group, views, board, commands, data))
    part = replace(board, tables=group.tables, left_out=())
    for ending, render in (("md", markdown.render), ("csv", csv_.render), ("tex", latex.render)):
        folder.write(f"downloads/{group.slug}.{ending}", render(part))


def _known(
    found: Sequence[Group],
    on_page: Mapping[str, tuple[Group, str]],
    records: Mapping[str, Record],
) -> dict[str, Any]:
    """List the runs for lookup by pages: [id, page, optimizer, seed, epochs, failed, score]."""
    page = {group.slug: at for at, group in enumerate(found)}
    optimizers = {name: at for at, name in enumerate(text.by_name({name for _, name in on_page.values()}))}
    runs = []
    for run_id, record in sorted(records.items()):
        group, name = on_page.get(run_id, (None, None))
        spec = record.spec
        runs.append([run_id, page[group.slug] if group else -1, optimizers.get(name, -1) if name else -1,
                     spec.seed, spec.epochs, int(record.failed), score_of(record)])  # fmt: skip
    return {
        "pages": [[text.plain(group.title), group.page] for group in found],
        "optimizers": [text.plain(name) for name in optimizers],
        "runs": finite(runs),
    }


def write_assets(folder: SiteFolder) -> None:
    """Write the style sheet, the scripts and the chart library."""
    import vl_convert

    # Inside a function, to keep the one-letter names of the bundle out of the global scope.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    folder.write("assets/vega.js", f"(function () {{\n{bundle}\n}})();\n")
    source = resources.files("suite.report.site") / "templates"
    for name in _ASSETS:
        folder.write(f"assets/{name}", (source / name).read_bytes())
