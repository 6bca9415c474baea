"""A table in the last lines of a terminal, redrawn in place; plain lines on any other stream.

The cursor rests below the table and is hidden only within the single write that redraws it, so a process
killed at any moment leaves a usable terminal. No line is wider than the terminal, so no line wraps. Most
terminals rewrap their lines when they are resized, so the number of rows up to the top of the table is
computed from the widths of the drawn lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TextIO

from suite.terminal.table import GAP, QUIET, Line, RunRow, clean, fit, header, run_line, text_of, width_of

Size = tuple[int, int]
"""Columns and rows."""

_WATCH_S = 0.25
_HIDE, _SHOW, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[K", "\x1b[J"


def is_terminal(stream: TextIO) -> bool:
    """Whether lines on this stream can be rewritten."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def terminal_size(stream: TextIO) -> Size:
    """Return the terminal's size; COLUMNS and LINES can only reduce it, as they may be out of date."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return _smaller(columns or 80, "COLUMNS"), _smaller(rows or 24, "LINES")


def _smaller(asked: int, variable: str) -> int:
    given = os.environ.get(variable, "")
    return min(asked, int(given) or asked) if given.isdecimal() else asked


class Screen:
    """Shows rows and a summary below permanent lines; use as a context manager.

    Args:
        stream: standard error by default, so that standard output is free for programs.
        size: returns the terminal's size; if given, the stream counts as a terminal.

    """

    def __init__(self, stream: TextIO | None = None, size: Callable[[], Size] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._size = size or partial(terminal_size, self._stream)
        self.live = size is not None or is_terminal(self._stream)
        self._rows: Sequence[RunRow] = ()
        self._summary: Sequence[str] = ()
        self._drawn: list[int] = []  # width in cells of each line of the current table
        self._drawn_at: Size = (0, 0)
        self._lock = threading.RLock()
        self._left = threading.Event()
        self._others = contextlib.ExitStack()

    def __enter__(self) -> Screen:
        if self.live:
            threading.Thread(target=self._follow_resizes, name="steppe-screen", daemon=True).start()
            self._catch_others()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._others.close()

    def say(self, text: str) -> None:
        """Print a permanent line above the table; the terminal wraps it if it is long."""
        text = clean(text, self._encoding)
        with self._lock:
            if self.live:
                self._draw(text + _CLEAR_LINE + "\n")
            else:
                self._write(text + "\n")

    def show(self, rows: Sequence[RunRow], summary: Sequence[str]) -> None:
        """Replace the table by these runs and the summary below them; draw nothing if not live."""
        with self._lock:
            self._rows, self._summary = rows, summary
            if self.live:
                self._draw()

    def _draw(self, above: str = "") -> None:
        """Write `above` and the new table over the current one, wherever a resize has moved its top.

        The rest of the old table is cleared last: if it fills the screen and the clearing starts at the
        top, some terminals move everything into their history.
        """
        columns, _ = self._drawn_at = self._size()
        n_rows = sum(max(1, -(-cells // columns)) for cells in self._drawn)
        lines = self._page(*self._drawn_at)
        self._drawn = [width_of(text_of(line)) for line in lines]
        table = "".join(_painted(line) + _CLEAR_LINE + "\n" for line in lines)
        back = f"\r\x1b[{n_rows}A" if n_rows else "\r"
        self._write(_HIDE + back + above + table + _CLEAR_BELOW + _SHOW)

    def _page(self, columns: int, rows: int) -> list[Line]:
        """Lay out the lines that fit; the last row is for the cursor, the last column prevents wrapping."""
        width = max(1, columns - 1)
        summary = [_note(clean(text, self._encoding), width) for text in self._summary]
        room = rows - 1 - len(summary) - 2  # a blank line and the header
        n = len(self._rows) if len(self._rows) <= room else max(0, room - 1)
        if n == 0:
            return summary[: max(1, rows - 1)]
        table = [(), header(width), *(run_line(row, width, self._encoding) for row in self._rows[:n])]
        if n < len(self._rows):
            table.append(_note(f"and {len(self._rows) - n} more", width, QUIET))
        return [*table, *summary]

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed pipe or a full disk must not end a run
            self._stream.write(text.encode(self._encoding, "replace").decode(self._encoding))
            self._stream.flush()

    def _follow_resizes(self) -> None:
        while not self._left.wait(_WATCH_S):
            with self._lock:
                if not self._left.is_set() and self._drawn and self._size() != self._drawn_at:
                    self._draw()

    def _catch_others(self) -> None:
        """Print the output of other code in this process above the table instead of into it."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is self._stream or stream.isatty():
                setattr(sys, name, self._others.enter_context(_Lines(self, stream)))
                self._others.callback(setattr, sys, name, stream)


def _note(text: str, width: int, colour: str = "") -> Line:
    return ((fit(text, width).rstrip(), colour),)


def _painted(line: Line) -> str:
    """Add colours; after non-ASCII text, whose width varies between terminals, move to an explicit column."""
    out, gap, column = "", "", 1
    for text, colour in line:
        out += gap + (f"\x1b[{colour}m{text}\x1b[0m" if colour and not os.environ.get("NO_COLOR") else text)
        column += width_of(text) + len(GAP)
        gap = GAP if text.isascii() else f"{GAP}\x1b[{column}G"
    return out


class _Lines(io.TextIOBase):
    """A stream whose whole lines go through `Screen.say`."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen, self._real = screen, stream
        self._rest = ""

    def fileno(self) -> int:
        return self._real.fileno()

    def write(self, text: str) -> int:
        with self._screen._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                self._screen.say(line)
        return len(text)

    def close(self) -> None:
        """Print the last line if it has no line break."""
        if self._rest:
            self._screen.say(self._rest)
            self._rest = ""
        super().close()
