"""What the tables look like, and that a stranger's name does nothing in them."""

import csv
import io
import re

import pytest

from suite.report import csv_, markdown
from suite.report.text import grid, spreadsheet
from suite.report.text import markdown as escape
from tests.suite.report.records import board, record, seeds, wavy

HOSTILE = [
    "a|b",
    "quote\"and's",
    "<script>alert(1)</script>",
    "two\nlines\r\n| of | table",
    "=1+2",
    "@SUM(A1)",
    "[link](http://x)",
    "![image](http://x)",
    "`code`",
    "**bold**",
    "back\\|slash",
    "right\u202eto left",
    "# heading",
    "&lt;b&gt;",
]


def cells(line):
    """Cells of a Markdown table row: split at pipes that no odd number of backslashes precedes."""
    out, cell, i = [], "", 1
    while i < len(line):
        if line[i] == "\\":
            cell, i = cell + line[i : i + 2], i + 2
        elif line[i] == "|":
            out, cell, i = [*out, cell.strip()], "", i + 1
        else:
            cell, i = cell + line[i], i + 1
    return out


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless_in_markdown(name):
    page = markdown.render(board([record(name), record(name, 1)], command=f"steppe run -o '{name}'"))
    text = page.split("This page is made by")[0]
    for forbidden in ("<script", "\u202e", "\r"):
        assert forbidden not in text
    assert not re.search(r"(?<!\\)(\]\(|\*\*|`code)", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(cells(row)) for row in rows]
    # six tables' lines: header, rule and one row, in two tables, in one or two views
    assert set(widths) == {11, 4}
    assert text.count("\n## ") == len(rows) / 6
    assert sum(line.startswith("# ") for line in text.splitlines()) == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless_in_csv(name):
    text = csv_.render(board([record(name), record(name, 1)]))
    lines = list(csv.reader(io.StringIO(text)))
    assert len({len(line) for line in lines}) == 1
    assert text.count("\n") == len(lines)  # no cell breaks its line
    for line in lines[1:]:
        assert not any(cell[:1] in set("=+@\t") for cell in line)


def test_a_command_cannot_leave_its_fence():
    page = markdown.render(board([record()], command="x\n```\n# gone ```` y"))
    assert page.endswith("`````sh\nx ``` # gone ```` y\n`````\n")


def test_negative_numbers_stay_numbers_and_text_does_not_become_a_formula():
    records = [*seeds("sgd", wavy(0.7)), *seeds("sam", wavy(0.6))]
    lines = list(csv.DictReader(io.StringIO(csv_.render(board(records)))))
    sam = next(line for line in lines if line["optimizer"] == "sam")
    assert float(sam["difference_to_best"]) == pytest.approx(-0.1)
    assert float(sam["test_accuracy_mean"]) == pytest.approx(0.6)
    assert sam["verdict"] == "worse"
    assert spreadsheet("-cmd") == "'-cmd"


def test_columns_line_up_in_plain_text():
    page = markdown.render(board([*seeds("sgd", wavy(0.7)), *seeds("sam", wavy(0.6), rho=0.123)]))
    block: list[str] = []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
        else:
            assert len({len(row) for row in block}) <= 1
            block = []


def test_ordinary_names_stay_as_they_are():
    for name in ("sam[rho=0.1,adaptive=true]", "cifar10-resnet8-5k", "hessian_trace", "lpf-sgd[M=8]"):
        assert escape(name) == name


def test_grid():
    assert grid(["a", "b"], [["xx|", "1"]], [False, True]) == [
        "| a   |   b |",
        "| --- | --: |",
        "| xx| |   1 |",
    ]
