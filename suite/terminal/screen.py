"""Where a table lives: the last lines of a terminal, rewritten in place, or plain lines anywhere else.

The cursor rests below the table and is hidden only within the one write that redraws it, so that a process
that is killed at any moment, by whatever signal, leaves the terminal as it should be. Nothing is wider
than the terminal, hence nothing wraps. When the terminal is resized, most of them wrap what is there anew:
the number of rows to go back is reckoned from the widths of the lines as they were drawn.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from suite.terminal.table import STYLES, Line, RunRow, clean, fit, header, run_line, text_of, width_of

Size = tuple[int, int]
"""Columns and rows."""

_WATCH_S = 0.25
_HIDE, _SHOW, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[K", "\x1b[J"


def is_terminal(stream: TextIO) -> bool:
    """Whether lines on this stream can be rewritten."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def terminal_size(stream: TextIO) -> Size:
    """Ask the terminal; COLUMNS and LINES may make it smaller, as they may be out of date."""
    try:
        size = os.get_terminal_size(stream.fileno())
        columns, rows = size.columns or 80, size.lines or 24
    except (OSError, ValueError):
        columns, rows = 80, 24
    return min(columns, _variable("COLUMNS", columns)), min(rows, _variable("LINES", rows))


def _variable(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else otherwise


class Screen:
    """Shows rows and a summary below lines that stay; use as a context manager.

    Args:
        stream: where to write; standard error by default, so that standard output stays for programs.
        size: asks for the terminal's size; given, the stream is taken for a terminal.

    """

    def __init__(self, stream: TextIO | None = None, size: Callable[[], Size] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._colour = not os.environ.get("NO_COLOR")
        self._size = size or (lambda: terminal_size(self._stream))
        self.live = size is not None or is_terminal(self._stream)
        self._rows: Sequence[RunRow] = ()
        self._summary: Sequence[str] = ()
        self._drawn: list[int] = []  # cells of each line of the table that stands
        self._drawn_at: Size = (0, 0)
        self._mute = False
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
        """Print a line that stays, above the table; the terminal wraps it if it is long."""
        text = clean(text, self._encoding)
        with self._lock:
            if self.live:
                self._write(self._back() + text + _CLEAR_LINE + "\n" + self._fresh())
            else:
                self._write(text + "\n")

    def show(self, rows: Sequence[RunRow], summary: Sequence[str]) -> None:
        """Show these runs and these lines below them instead of what the table held; nothing if not live."""
        with self._lock:
            self._rows, self._summary = rows, summary
            if self.live:
                self._write(self._back() + self._fresh())

    def _back(self) -> str:
        """Return to the first row of the table, wherever a resize has put it."""
        columns = max(1, self._size()[0])
        n_rows = sum(max(1, -(-cells // columns)) for cells in self._drawn)
        return "\r" + (f"\x1b[{n_rows}A" if n_rows else "")

    def _fresh(self) -> str:
        """Compose the table anew, line by line, and remember what stands then.

        What is left of the one before is cleared at the end: where the table fills the screen, some
        terminals take a clearing that starts at the top for a wish to keep it all in their history.
        """
        self._drawn_at = self._size()
        lines = self._page(*self._drawn_at)
        self._drawn = [width_of(text_of(line)) for line in lines]
        return "".join(self._painted(line) + _CLEAR_LINE + "\n" for line in lines) + _CLEAR_BELOW

    def _page(self, columns: int, rows: int) -> list[Line]:
        """Lay out what fits; the last row stays free for the cursor, the last column against wrapping."""
        width = max(1, columns - 1)
        summary: list[Line] = [
            ((fit(clean(text, self._encoding), width).rstrip(), ""),) for text in self._summary
        ]
        room = rows - 1 - len(summary) - 2  # a blank line and the header
        shown = list(self._rows[: max(0, room if len(self._rows) <= room else room - 1)])
        if not shown:
            return summary[: max(1, rows - 1)]
        table: list[Line] = [(), header(width), *(run_line(row, width, self._encoding) for row in shown)]
        if hidden := len(self._rows) - len(shown):
            table.append(((fit(f"and {hidden} more", width).rstrip(), "quiet"),))
        return [*table, *summary]

    def _painted(self, line: Line) -> str:
        """Add colour, and the column of each piece where terminals may disagree on its width."""
        wide = not all(text.isascii() for text, _ in line)
        out, column = [], 1
        for text, style in line:
            out.append(f"\x1b[{column}G" if wide and column > 1 else "")
            out.append(f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and self._colour else text)
            column += width_of(text)
        return "".join(out)

    def _write(self, text: str) -> None:
        if self._mute:
            return
        text = text.encode(self._encoding, "replace").decode(self._encoding)
        try:
            self._stream.write(_HIDE + text + _SHOW if self.live else text)
            self._stream.flush()
        except OSError:  # the reader left, the disk is full: nobody sees it, and no run ends for that
            self._mute = True

    def _follow_resizes(self) -> None:
        while not self._left.wait(_WATCH_S):
            with self._lock:
                if not self._left.is_set() and self._drawn and self._size() != self._drawn_at:
                    self._write(self._back() + self._fresh())

    def _catch_others(self) -> None:
        """Put what other code of this process prints above the table instead of into it."""
        for stream, redirect in (
            (sys.stderr, contextlib.redirect_stderr),
            (sys.stdout, contextlib.redirect_stdout),
        ):
            if stream is self._stream or stream.isatty():
                lines = self._others.enter_context(_Lines(self, stream))
                self._others.enter_context(redirect(lines))


class _Lines(io.TextIOBase):
    """A stream whose whole lines go through `Screen.say`."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen, self._real = screen, stream
        self._rest = ""

    def fileno(self) -> int:
        return self._real.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._screen.say(line)
        return len(text)

    def close(self) -> None:
        """Say what was printed without a line break at its end."""
        if self._rest:
            self._screen.say(self._rest)
            self._rest = ""
        super().close()
