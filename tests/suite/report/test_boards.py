"""Records and leaderboards as a library gives them: chosen, and as data."""

from __future__ import annotations

import csv
import io

import pytest

from suite.entries.registry import Registry
from suite.errors import SteppeError
from suite.report import boards, csv_
from suite.report.leaderboard import Leaderboard
from tests.docs.markdown import ROOT

PUBLISHED = ROOT / "results" / "records" / "digits-cnn.jsonl"


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return boards.leaderboard(boards.load_records([PUBLISHED]), Registry())


def test_records_are_chosen_by_globs() -> None:
    every = boards.load_records([PUBLISHED])
    some = boards.load_records([PUBLISHED], tasks=["digits*"], optimizers=["ada*", "sgd"])
    chosen = ("adam", "adabelief", "sgd")
    assert some == [record for record in every if record.spec.optimizer.name in chosen]
    assert boards.load_records([PUBLISHED], tasks=["cifar*"]) == []


def test_the_table_has_the_numbers_of_the_csv(board: Leaderboard) -> None:
    columns, rows = csv_.table(board)
    shown = list(csv.DictReader(io.StringIO(csv_.render(board))))
    assert columns == list(shown[0])
    assert len(rows) == len(shown) > 6
    for row, line in zip(rows, shown, strict=True):
        for value, text in zip(row, line.values(), strict=True):
            assert value == (float(text) if isinstance(value, float) else text or None)


def test_a_column_of_the_table_is_of_one_kind(board: Leaderboard) -> None:
    columns, rows = csv_.table(board)
    for name, *values in zip(columns, *rows, strict=True):
        assert len({type(value) for value in values if value is not None}) <= 1, name


def test_an_unknown_format_names_the_valid_ones(board: Leaderboard) -> None:
    with pytest.raises(SteppeError, match=r"unknown format 'pdf'. Valid: csv, md, tex"):
        boards.render(board, "pdf", [], Registry())
