"""What the tables look like, and that a stranger's name does nothing in them."""

import csv
import io
import re

import pytest

from suite.report import csv_, markdown
from suite.report.stats import Interval
from suite.report.text import geometric, grid, measured, spreadsheet
from suite.report.text import markdown as escape
from suite.report.text import seconds as seconds_of
from tests.suite.report.fake_records import board, record, seeds, wavy

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


@pytest.mark.parametrize(
    ("mean", "half", "shown"),
    [(123.45, 0.32, "123.45 ± 0.32"), (20.0, 1.5, "20.0 ± 1.5"), (7.5, 2.2, "7.5 ± 2.2"),
     (0.00339, 5.7e-4, "0.00339 ± 5.7e-04"), (5.09e7, 1.2e6, "5.09e+07 ± 1.2e+06"), (150.0, 20.0, "150 ± 20"),
     (0.4, 35.0, "0.40 ± 35"), (0.5, 0.0, "0.5 ± 0"), (-3.25, 0.04, "-3.250 ± 0.040")],
)  # fmt: skip
def test_a_mean_goes_as_far_as_its_interval(mean, half, shown):
    assert measured(Interval(mean, mean - half, mean + half, 3)) == shown


def test_one_run_has_no_interval():
    assert measured(Interval(2.5, None, None, 1)) == "2.5"
    assert measured(None) == "-"
    assert geometric(2.5e-7, None) == "2.50e-07"


@pytest.mark.parametrize(
    ("mean", "half", "shown"),
    [(1.23e-5, 0.11, "1.23e-05 ×/÷ 1.29"), (34.567, 0.001, "34.567 ×/÷ 1.0023"), (2.0, 1.0, "2.00 ×/÷ 10"),
     (2e-8, 0.0, "2.00e-08 ×/÷ 1"), (1e-8, 1e4, "1.00e-08 ×/÷ 1.0e+150")],
)  # fmt: skip
def test_a_geometric_mean_has_a_factor(mean, half, shown):
    assert geometric(mean, half) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0.0, "0"), (0.0412, "0.041"), (36.24, "36.2")])
def test_seconds(value, shown):
    assert seconds_of(value) == shown
