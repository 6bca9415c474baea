"""Text for standard output: tables, shortened names, values and times, in the characters of its encoding."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

from suite.terminal.table import clean, fit, width_of


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns to the left, two spaces apart; the first row is the header."""
    cells = [[clean(cell, encoding()) for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(fit, row, widths)).rstrip() for row in cells)


def shorten(name: str, width: int = 32) -> str:
    """Cut a name that is too long for a table and mark the cut."""
    name = clean(name, encoding())
    return fit(name, width) if width_of(name) > width else name


def cell(value: object) -> str:
    """Write a value for a table: floats with six significant digits, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else clean(str(value))


def encoding() -> str:
    """Return the encoding of standard output."""
    return sys.stdout.encoding or "utf-8"


def is_utf8() -> bool:
    """Whether standard output is encoded as UTF-8."""
    return encoding().lower().replace("-", "") == "utf8"


def columns() -> int:
    """Return the width of the terminal, or 80 without one."""
    return shutil.get_terminal_size((80, 24)).columns


def moment(seconds_from_now: float) -> str:
    """Write a future time: `14:32` today, `Tue 01 Dec 14:32` this year, else with the year."""
    now = datetime.now().astimezone()
    then = now + timedelta(seconds=seconds_from_now)
    year = "" if then.year == now.year else f" {then:%Y}"
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %d %b %H:%M}{year}"
