"""Curves in a line of text."""

from __future__ import annotations

import pytest

from suite.report.sparkline import ASCII, BLOCKS, levels, sparkline


def test_a_ramp_goes_through_every_level() -> None:
    assert sparkline(range(8), 8) == BLOCKS
    assert sparkline(range(8), 80) == BLOCKS
    assert sparkline(range(8), 8, ASCII) == ASCII
    assert sparkline([7, 0], 8) == "█▁"


def test_neighbours_share_a_character_by_their_mean() -> None:
    assert sparkline([0, 0, 1, 1, 7, 7], 3) == "▁▂█"
    assert len(sparkline(range(1000), 33)) == 33
    assert sparkline(range(1000), 8) == BLOCKS


def test_what_is_missing_or_not_finite_is_marked() -> None:
    assert sparkline([1.0, None, float("nan"), float("inf"), 2.0], 8) == "▁xxx█"
    assert sparkline([None, None], 8) == "xx"
    assert sparkline([1.0, 2.0, None, 2.0], 2) == "▁x"


def test_a_sparse_curve_is_blank_where_it_was_not_taken() -> None:
    gaps = [None, None, 4.0, None, None, 1.0]
    assert sparkline(gaps, 8, sparse=True) == "  █  ▁"
    assert sparkline(gaps, 3, sparse=True) == " █▁"
    assert sparkline([None, 4.0, float("nan"), 1.0], 4, sparse=True) == " █x▁"
    assert sparkline([None, None], 8, sparse=True) == "  "


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0, 0.0]])
def test_a_constant_runs_along_the_bottom(values: list[float]) -> None:
    assert sparkline(values, 8) == "▁▁"


def test_extremes() -> None:
    assert sparkline([], 8) == ""
    assert sparkline([-1.7e308, 0.0, 1.7e308], 8) == "▁▅█"


def test_marks_by_encoding() -> None:
    assert levels("utf-8") == BLOCKS
    assert [levels(name) for name in ("ascii", "latin-1", None, "no-such")] == [ASCII] * 4
