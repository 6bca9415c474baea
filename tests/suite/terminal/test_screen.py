"""The last lines of a terminal, by the bytes that are written; real terminals are in cli/test_terminal.py."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable

import pytest

from suite.terminal.screen import Screen, Size, is_terminal, terminal_size
from suite.terminal.table import RunRow, text_of, width_of


class Terminal(io.StringIO):
    """A stream that calls itself a terminal and keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


def rows(n: int) -> list[RunRow]:
    return [
        RunRow("task", "sam", seed, 1, 4.0, 0.5, 0.5, "accuracy", "%", 100, 10.0, "running")
        for seed in range(n)
    ]


def screen(size: Size = (80, 24)) -> tuple[Screen, Terminal, list[Size]]:
    out, sizes = Terminal(), [size]
    return Screen(out, lambda: sizes[-1]), out, sizes


def test_every_write_hides_and_shows_the_cursor_and_leaves_it_below() -> None:
    shown, out, _ = screen()
    shown.show(rows(2), ["summary"])
    shown.say("a line")
    shown.show([], [])
    assert len(out.writes) == 3
    for text in out.writes:
        assert text.startswith("\x1b[?25l")
        assert text.endswith("\x1b[?25h")
        assert text.count("\x1b[?25") == 2
    assert out.writes[0].endswith("\n\x1b[J\x1b[?25h")
    assert out.writes[1].startswith("\x1b[?25l\r\x1b[5Aa line\x1b[K\n")
    assert out.writes[1].endswith("\n\x1b[J\x1b[?25h")
    assert out.writes[1].index("a line") < out.writes[1].index("optimizer")
    assert out.writes[2] == "\x1b[?25l\r\x1b[5A\x1b[J\x1b[?25h"


def test_after_a_resize_it_goes_back_over_the_lines_as_they_are_wrapped_now() -> None:
    shown, out, sizes = screen((100, 24))
    shown.show(rows(3), ["x" * 99])
    width = len(text_of(shown._page(100, 24)[1]))
    assert 50 < width < 100
    sizes.append((50, 24))
    shown.show(rows(3), ["x" * 99])
    assert "\x1b[11A" in out.writes[1]  # a blank line, and five on two rows each
    assert all(len(line) < 50 for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.writes[1]).splitlines())
    shown.show(rows(3), ["x" * 99])
    assert "\x1b[6A" in out.writes[2]


def test_a_resize_is_noticed_without_an_event() -> None:
    shown, out, sizes = screen((100, 24))
    with shown:
        shown.show(rows(1), ["summary"])
        sizes.append((60, 24))
        limit = time.monotonic() + 20
        while len(out.writes) < 2 and time.monotonic() < limit:
            time.sleep(0.05)
    assert len(out.writes) == 2


@pytest.mark.parametrize(("height", "n_shown"), [(24, 19), (10, 5), (5, 0), (2, 0)])
def test_more_runs_than_rows_are_counted(height: int, n_shown: int) -> None:
    shown, _, _ = screen((80, height))
    shown.show(rows(50), ["summary"])
    lines = [text_of(line) for line in shown._page(80, height)]
    assert len(lines) <= height - 1
    assert sum(line.startswith("sam") for line in lines) == n_shown
    assert lines[-1] == "summary"
    assert (f"and {50 - n_shown} more" in lines) == (n_shown > 0)


def test_what_others_print_goes_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(sys, "stdout", out)
    with Screen(out, lambda: (80, 24)) as shown:
        shown.show(rows(1), ["summary"])
        print("a warning \x1b[31mof a library", file=sys.stderr)
        print("no line break", end="")
    assert sys.stderr is out
    assert "a warning  [31mof a library\x1b[K\n" in out.writes[1]
    assert out.writes[1].endswith("summary\x1b[K\n\x1b[J\x1b[?25h")
    assert "no line break\x1b[K\n" in out.writes[2]


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, out, _ = screen()
    coloured.show(rows(1), ["summary"])
    assert "\x1b[32mrunning" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain, out, _ = screen()
    plain.show(rows(1), ["summary"])
    assert not re.search(r"\x1b\[[0-9;]*m", out.getvalue())


@pytest.mark.parametrize(
    ("term", "is_one"), [("xterm", True), ("dumb", False), ("", False), ("unknown", False)]
)
def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, term: str, is_one: bool) -> None:
    monkeypatch.setenv("TERM", term)
    assert is_terminal(Terminal()) is is_one
    assert not is_terminal(io.StringIO())
    with Screen(Terminal()) as shown:
        shown.show(rows(1), ["summary"])
        shown.say("a line")
    assert ("\x1b" in shown._stream.getvalue()) is is_one  # type: ignore[attr-defined]


def test_columns_of_the_environment_make_it_smaller_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, columns in (("40", 40), ("200", 80), ("0", 80), ("wide", 80), ("", 80)):
        monkeypatch.setenv("COLUMNS", value)
        monkeypatch.delenv("LINES", raising=False)
        assert terminal_size(io.StringIO()) == (columns, 24)


def cells_of(line: str, width: Callable[[str], int]) -> dict[int, str]:
    """Return what stands in which column of a terminal that takes each character to be that wide."""
    cells: dict[int, str] = {}
    column = 1
    for move, character in re.findall(r"\x1b\[(\d+)G|(.)", re.sub(r"\x1b\[\d*[mK]", "", line)):
        column = int(move) if move else column
        if character:
            cells[column] = character
            column += width(character)
    return cells


@pytest.mark.parametrize("width", [len, width_of, lambda character: 1 if character.isascii() else 2])
def test_wide_characters_do_not_shift_what_follows(width: Callable[[str], int]) -> None:
    shown, out, _ = screen((160, 24))
    shown.show([RunRow(name, name, 1, state="running") for name in ("🔥☰", "日本語", "sgd")], [])
    _, head, *lines, _ = out.getvalue().split("\n")
    seed = min(column for column, character in cells_of(head, len).items() if character == "d")
    tails = [{at: c for at, c in cells_of(line, width).items() if at >= seed} for line in lines]
    assert tails[0] == tails[1] == tails[2]
    assert "running" in "".join(tails[0].values())


@pytest.mark.parametrize("live", [False, True])
def test_a_stream_that_fails_stops_nothing(live: bool) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    reader, writer = os.pipe()
    os.close(reader)
    for stream in (Closed(), os.fdopen(writer, "w"), open("/dev/full", "w")):  # noqa: SIM115
        with Screen(stream, (lambda: (80, 24)) if live else None) as shown:
            shown.say("a line")
            shown.show(rows(2), ["2 running"])
            shown.say("another")
        with contextlib.suppress(OSError):
            stream.close()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_every_encoding_gets_what_it_can_show(encoding: str, live: bool) -> None:
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, encoding=encoding)
    with Screen(stream, (lambda: (160, 24)) if live else None) as shown:
        shown.say("日é done")
        shown.show([RunRow("é" * 99, "日" * 99, 1, state="running")], ["日é running"])
    text = out.getvalue().decode(encoding)
    expected = "日é".encode(encoding, "replace").decode(encoding)
    assert f"{expected} done" in text
    assert (f"{expected} running" in text) is live


def test_threads_that_print_do_not_tear_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Terminal):
        def write(self, text: str) -> int:
            time.sleep(1e-4)  # another thread goes on meanwhile
            return super().write(text)

    out = Slow()
    monkeypatch.setattr(sys, "stderr", out)

    def print_lines(name: int) -> None:
        for i in range(100):
            sys.stderr.write(f"thread {name} line {i}\n")

    with Screen(out, lambda: (80, 24)) as shown:
        threads = [threading.Thread(target=print_lines, args=(name,)) for name in range(2)]
        for thread in threads:
            thread.start()
        for i in range(100):
            shown.show(rows(i % 4), [f"{i} of 100"])
            shown.say(f"run {i}")
        for thread in threads:
            thread.join()
        shown.show([], [])
    lines: list[str] = []
    for text in out.writes:
        drawn = re.fullmatch(r"\x1b\[\?25l\r(?:\x1b\[(\d+)A)?(.*)\x1b\[J\x1b\[\?25h", text, re.DOTALL)
        assert drawn
        back, body = drawn.groups()
        lines[len(lines) - int(back or 0) :] = body.replace("\x1b[K", "").split("\n")[:-1]
    said = [f"run {i}" for i in range(100)]
    assert sorted(lines) == sorted([*said, *(f"thread {n} line {i}" for n in range(2) for i in range(100))])
    assert [line for line in lines if line.startswith("run")] == said
