"""Runs as rows of a table with fixed column widths, and as plain text.

A terminal counts cells, not characters: an emoji takes two. Names are untrusted, so characters that control
a terminal (escape sequences, line breaks, changes of direction) become spaces.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from suite.metric import PERCENT

Line = tuple[tuple[str, str], ...]
"""Cells, `GAP` apart: text, and its colour as a code of Select Graphic Rendition, or empty."""

GAP = "  "
_HEAD, QUIET = "1", "2"
_STATES = {"running": "32", "failed": "1;31", "interrupted": "1;31", "loading": QUIET}
"""Colours of the states; the text alone carries the same information."""
_OTHER_STATE = "36"
_VARIATION = range(0xFE00, 0xFE10)  # variation selectors widen an emoji on some terminals only


@dataclass(frozen=True)
class RunRow:
    """A run as the tables show it; None stands for unknown values."""

    task: str
    optimizer: str
    seed: int
    epoch: int | None = None
    epochs: float | None = None
    loss: float | None = None
    score: float | None = None
    """The primary metric on the validation split."""
    metric: str = ""
    """Name of the primary metric."""
    unit: str = ""
    sample_gradients: float | None = None
    left_s: float | None = None
    state: str = ""


# -- words -------------------------------------------------------------------------------------------


def label(row: RunRow) -> str:
    """Write the name of a run: task, optimizer and seed."""
    return f"{row.task} {row.optimizer} seed {row.seed}"


def progress(row: RunRow) -> str:
    """Write the progress of a run for a plain line: epoch, loss, validation metric."""
    parts = [f"epoch {epoch(row)}", f"loss {number(row.loss)}"]
    if row.score is not None:
        parts.append(f"val {row.metric} {measure(row.score, row.unit)}")
    return "  ".join(parts)


def epoch(row: RunRow) -> str:
    """Write the epoch as `12/40`; a dash before the first one."""
    if row.epoch is None:
        return "-"
    return f"{row.epoch}/{row.epochs:.4g}" if row.epochs is not None else str(row.epoch)


def measure(value: float | None, unit: str) -> str:
    """Write a metric with its unit, fractions in percent: `65.12 %`, `1.204 bits`."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if unit == PERCENT else f"{number(value)} {unit}".rstrip()


def narrow(value: float | None, unit: str) -> str:
    """Write a metric in at most seven characters: `65.12%`, or without its unit if that is not percent."""
    return f"{100 * value:.2f}%" if value is not None and unit == PERCENT else number(value)


def number(value: float | None) -> str:
    """Write a number in at most seven characters; a dash for None."""
    if value is None:
        return "-"
    written = (f"{value:.4f}", f"{value:.5g}", f"{value:.1e}", f"{value:.0e}")
    return next((text for text in written if len(text) <= 7), written[-1])


def count(n: float | None) -> str:
    """Write a large count with three digits and a prefix: `54 k`, `10.8 M`, `1.35 G`."""
    if n is None:
        return "?"
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= 0.9995 * unit:  # larger values round to at least 1 of this unit
            return f"{n / unit:.3g} {name}"
    return f"{n:.3g}"


def plural(n: float, noun: str) -> str:
    """Return the singular or plural of a noun after a number."""
    return noun if n == 1 else f"{noun}s"


def duration(seconds: float | None) -> str:
    """Write a time in its two largest units: 7 s, 3 min 20 s, 2 h 05 min; a dash for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def brief(seconds: float | None) -> str:
    """Write `duration` in at most seven characters, for columns."""
    if seconds is not None and seconds >= 100 * 86_400:
        return f"{round(seconds / 86_400)}d"
    return duration(seconds).replace(" min", "m").replace(" s", "s").replace(" h", "h").replace(" d", "d")


# -- cells -------------------------------------------------------------------------------------------


def clean(text: str, encoding: str = "utf-8") -> str:
    """Replace unprintable characters by spaces, and those that `encoding` lacks by `?`."""
    text = "".join(c if c.isprintable() else " " for c in text if ord(c) not in _VARIATION)
    return text.encode(encoding, "replace").decode(encoding)


def width_of(text: str) -> int:
    """Return the width of clean text in terminal cells."""
    if text.isascii():
        return len(text)
    shown = [c for c in text if not unicodedata.category(c).startswith("M")]  # combining marks take no cell
    return len(shown) + sum(unicodedata.east_asian_width(c) in "WF" for c in shown)


def fit(text: str, width: int, right: bool = False) -> str:
    """Bring text to exactly `width` cells: pad it with spaces, or cut it and mark the cut."""
    if width_of(text) > width:
        mark = ("~" if text.isascii() else "…")[:width]  # ASCII text stays ASCII
        text = text[: width - len(mark)]
        while width_of(text + mark) > width:
            text = text[:-1]
        text += mark
    filling = " " * (width - width_of(text))
    return filling + text if right else text + filling


# -- lines -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """A column of the table; in a narrow terminal, columns with the highest `rank` are dropped first."""

    name: str
    width: int
    rank: int
    text: Callable[[RunRow], str]
    right: bool = True


_COLUMNS = (
    _Column("task", 16, 7, lambda row: row.task, right=False),
    _Column("optimizer", 12, 0, lambda row: row.optimizer, right=False),
    _Column("seed", 4, 1, lambda row: str(row.seed)),
    _Column("epoch", 8, 2, epoch),
    _Column("loss", 7, 6, lambda row: number(row.loss)),
    _Column("val", 7, 4, lambda row: narrow(row.score, row.unit)),
    _Column("cost", 6, 8, lambda row: "-" if row.sample_gradients is None else count(row.sample_gradients)),
    _Column("left", 7, 3, lambda row: brief(row.left_s)),
    _Column("state", 9, 5, lambda row: row.state, right=False),
)
_GROWTH = (("optimizer", 16), ("task", 20), ("optimizer", 30), ("task", 32))
"""Columns that take the remaining width, in this order, up to these widths in cells."""


@cache
def _layout(width: int) -> tuple[tuple[_Column, int], ...]:
    """Choose the columns that fit into `width` cells and their widths, which depend on `width` only."""
    chosen: dict[str, int] = {}
    room = width + len(GAP)
    for column in sorted(_COLUMNS, key=lambda column: column.rank):
        cells = column.width if column.rank else min(column.width, width)  # the optimizer is always shown
        if cells + len(GAP) <= room:
            chosen[column.name] = cells
            room -= cells + len(GAP)
    for name, limit in _GROWTH:
        if name in chosen:
            more = min(room, max(0, limit - chosen[name]))
            chosen[name] += more
            room -= more
    return tuple((column, chosen[column.name]) for column in _COLUMNS if column.name in chosen)


def header(width: int) -> Line:
    """Return the header of the rows of `run_line`."""
    return _trimmed([(fit(column.name, cells, column.right), _HEAD) for column, cells in _layout(width)])


def run_line(row: RunRow, width: int, encoding: str = "utf-8") -> Line:
    """Lay out a run in at most `width` cells."""
    colours = {"state": _STATES.get(row.state, _OTHER_STATE)}
    return _trimmed(
        [
            (fit(clean(column.text(row), encoding), cells, column.right), colours.get(column.name, ""))
            for column, cells in _layout(width)
        ]
    )


def _trimmed(cells: list[tuple[str, str]]) -> Line:
    text, colour = cells[-1]
    return (*cells[:-1], (text.rstrip(), colour))


def text_of(line: Line) -> str:
    """Return the line without colours."""
    return GAP.join(text for text, _ in line).rstrip()
