"""The charts of a leaderboard as files for papers and slides: SVG, and PNG at twice the size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from suite.files import make_folder, write_whole
from suite.report import charts, text
from suite.report.columns import page_curves
from suite.report.curves import Curve
from suite.report.leaderboard import Leaderboard, Table, names

SCALE = 2
"""Pixels of the PNG per pixel of the chart."""

_LONGEST = 60
"""Characters of a task's name in a file name."""


def write(
    folder: Path, board: Leaderboard, curves_by_table: Sequence[Sequence[Curve]] | None = None
) -> list[Path]:
    """Write every chart of every table and its learning curves; return the files.

    The same leaderboard gives the same file names and the same SVG, byte for byte. Uses no network.

    Args:
        folder: created if missing.
        board: the leaderboard.
        curves_by_table: for each of `board.tables`, its curves, of columns of `page_curves`.

    """
    made: dict[str, tuple[str, bytes]] = {}
    entries = names(board)
    for i, table in enumerate(board.tables):
        head = f"{i + 1:02d}-{slug(table.task)}-{slug(table.view)}-{slug(f'{table.budget:g}')}x"
        specs = [*charts.of_table(table, entries).items()]
        specs += _curves(table, curves_by_table[i] if curves_by_table else (), entries)
        for name, spec in specs:
            stem = _unlike(f"{head}-{slug(name)}", made)
            made[stem] = draw(spec)
    make_folder(folder)
    files = []
    for stem, (svg, png) in made.items():
        for ending, content in ((".png", png), (".svg", svg.encode())):
            files.append(folder / f"{stem}{ending}")
            write_whole(files[-1], content)
    return files


def draw(spec: charts.Spec) -> tuple[str, bytes]:
    """Draw a chart on a light background; return the SVG and the PNG."""
    import vl_convert

    themed = charts.themed(spec, dark=False)
    themed["config"]["background"] = charts.BACKGROUND["light"]
    svg = str(vl_convert.vegalite_to_svg(themed, vl_version=charts.VEGA_LITE, allowed_base_urls=[]))
    return svg, bytes(vl_convert.svg_to_png(svg, scale=SCALE))


def slug(name: str) -> str:
    """Make a name safe for any file system: a to z, digits and hyphens."""
    return re.sub("[^a-z0-9]+", "-", name.lower())[:_LONGEST].strip("-") or "unnamed"


def _unlike(stem: str, taken: dict[str, tuple[str, bytes]]) -> str:
    count, out = 1, stem
    while out in taken:
        count += 1
        out = f"{stem}-{count}"
    return out


def _curves(
    table: Table, curves: Sequence[Curve], entries: Sequence[str]
) -> Iterator[tuple[str, charts.Spec]]:
    """Draw the curves of a table, one chart per column and axis."""

    def kind(curve: Curve) -> tuple[str, str]:
        return curve.column, curve.along

    known = page_curves(table.described)
    for (key, along), some in groupby(sorted(curves, key=kind), key=kind):
        column = known[key]
        title = f"{column.words.capitalize()}: {text.plain(table.task)} on {text.plain(table.data)}"
        yield f"curves-{key}-by-{along}", charts.curve_bands(list(some), column, title, names=entries)
