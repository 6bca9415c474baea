"""Rows and columns: fixed widths, cells instead of characters, names that do nothing."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from suite.terminal.table import (
    RunRow,
    brief,
    clean,
    count,
    duration,
    fit,
    header,
    measure,
    narrow,
    number,
    run_line,
    text_of,
    width_of,
)

ROW = RunRow(
    "cifar10-resnet8-5k",
    "sam[rho=0.1]",
    3,
    12,
    40.0,
    0.51234,
    0.6512,
    "accuracy",
    "%",
    54_000,
    200.0,
    "running",
)
HOSTILE = [
    "<script>alert(1)</script>",
    "[bold]markup[/bold]",
    "🔥" * 60,
    "❤\ufe0f on",
    "x" * 300,
    "\x1b[31mred\x1b[2J\x07",
    "two\nlines\r\x0b",
    "日本語のとても長い名前です" * 5,
    "\u202eabc\u2066",
    "e\u0301" * 50,
    "\udc80",
]


@pytest.mark.parametrize("width", [10, 12, 39, 60, 79, 99, 159, 300])
def test_every_row_has_the_columns_of_the_header(width: int) -> None:
    names = text_of(header(width)).split("  ")
    lines = [text_of(run_line(RunRow(name, name, 1, state="measuring"), width)) for name in HOSTILE]
    assert names[0].strip() == ("task" if width >= 99 else "optimizer")
    assert all(width_of(line) <= width for line in lines)
    if width >= 39:  # something stands after the names, and at the same place in every row
        assert len({width_of(line) for line in lines}) == 1


def test_columns_keep_their_place_whatever_they_hold() -> None:
    extremes = [
        ROW,
        RunRow("t", "o", 0),
        RunRow(
            "t" * 99,
            "o" * 99,
            9999,
            9999,
            10000.0,
            123456.789,
            1.0,
            "m" * 99,
            "u" * 99,
            10**15,
            1e8,
            "resuming",
        ),
        RunRow("t", "o", 1, 0, 0.5, -1e-9, 0.0, "error", "", 0, 0.0, "interrupted"),
    ]
    head = text_of(header(159))
    for row in extremes:
        line = text_of(run_line(row, 159)).ljust(len(head))
        for gap in ("  seed", "  state"):
            assert line[head.index(gap) : head.index(gap) + 2] == "  "


def test_what_80_and_40_columns_show() -> None:
    assert " ".join(text_of(header(79)).split()) == "optimizer seed epoch loss val cost left state"
    shown = " ".join(text_of(run_line(ROW, 79)).split())
    assert shown == "sam[rho=0.1] 3 12/40 0.5123 65.12% 54 k 3m 20s running"
    assert text_of(header(39)).split() == ["optimizer", "seed", "epoch", "left"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [0, 1, 2, 7, 32])
def test_a_cell_is_as_wide_as_it_should_be(text: str, width: int) -> None:
    cell = fit(clean(text), width)
    assert width_of(cell) == width
    assert cell.isprintable()


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("", 0),
        ("sam", 3),
        ("é", 1),
        ("e\u0301", 1),
        ("日本", 4),
        ("か\u3099", 2),
        ("🔥", 2),
        ("हिन्दी", 3),
        ("ｆ", 2),
        ("ｱ", 1),
    ],
)
def test_the_cells_of_a_text_are_counted(text: str, cells: int) -> None:
    assert width_of(text) == cells == cell_len(text)


def test_an_encoding_gets_what_it_can_show() -> None:
    row = RunRow("日本", "🔥" * 20, 0, state="running")
    assert text_of(run_line(row, 159, "ascii")).isascii()
    assert fit("x" * 9, 4) == "xxx~"
    assert fit("é" * 9, 4) == "ééé…"


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (None, "-", "-"),
        (0.4, "0 s", "0s"),
        (59.6, "1 min 00 s", "1m 00s"),
        (200, "3 min 20 s", "3m 20s"),
        (7500, "2 h 05 min", "2h 05m"),
        (200_000, "2 d 07 h", "2d 07h"),
        (1e8, "1157 d 09 h", "1157d"),
    ],
)
def test_durations(seconds: float | None, text: str, short: str) -> None:
    assert duration(seconds) == text
    assert brief(seconds) == short


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (None, "?"),
        (0, "0"),
        (999, "999"),
        (333.4, "333"),
        (54_000, "54 k"),
        (999_999, "1 M"),
        (10_800_000, "10.8 M"),
    ],
)
def test_counts(n: float | None, text: str) -> None:
    assert count(n) == text


@pytest.mark.parametrize("value", [None, 0.0, 2.302585, 99.99999, 12345.678, 1e30, -1e30, 1e-30])
def test_a_number_takes_seven_characters_at_most(value: float | None) -> None:
    assert len(number(value)) <= 7


@pytest.mark.parametrize(
    ("value", "unit", "text", "short"),
    [
        (0.6512, "%", "65.12 %", "65.12%"),
        (1.0, "%", "100.00 %", "100.00%"),
        (1.5, "bits", "1.5000 bits", "1.5000"),
        (0.25, "", "0.2500", "0.2500"),
        (None, "%", "-", "-"),
    ],
)
def test_a_metric_is_written_with_its_unit(value: float | None, unit: str, text: str, short: str) -> None:
    assert (measure(value, unit), narrow(value, unit)) == (text, short)
