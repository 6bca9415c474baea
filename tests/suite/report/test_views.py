"""The view by seconds: which rows are near a budget of training time, on one machine."""

import random

import pytest

from suite.report import csv_, markdown
from suite.report.leaderboard import names
from suite.report.views import NEAR
from tests.suite.report.fake_records import EPOCHS, board, record, seeds, wavy


def timed(records):
    return [table for table in board(records).tables if table.view == "seconds"]


def row(optimizer, seconds, **options):
    """Three seeds whose times lie around a median."""
    return [record(optimizer, seed, 0.6, train_s=took, **options)
            for seed, took in enumerate((0.5 * seconds, seconds, 9 * seconds))]  # fmt: skip


def labels(table):
    return [row.optimizer for row in table.rows]


def test_the_budget_is_the_time_of_the_fastest_one_gradient_row_at_the_tasks_epochs():
    slow = row("sgd", 150.0, rho=0.1)
    records = [*row("sgd", 100.0), *slow, *row("sam", 195.0), *row("sam", 98.0, epochs=20.0),
               *row("nso", 50.0, epochs=10.0)]  # fmt: skip
    (table,) = timed(records)
    assert (table.budget, table.seconds, table.epochs) == (1.0, 100.0, EPOCHS)
    assert labels(table) == ["sam (20 epochs)", "sgd"]
    assert [(found.entry, found.epochs) for found in table.rows] == [("sam", 20.0), ("sgd", 40.0)]


@pytest.mark.parametrize(("seconds", "near"), [(90.0, True), (110.0, True), (89.9, False), (110.1, False)])
def test_rows_lie_within_a_tenth_of_the_budget(seconds, near):
    assert NEAR == 0.1
    # cost 2, so that it never sets the budget itself
    assert bool(timed([*row("sgd", 100.0), *row("sam", seconds)])) == near


def test_larger_budgets_compare_what_equal_epochs_do_not():
    two = [*row("sgd", 200.0, epochs=80.0), *row("sam", 195.0)]
    found = timed([*row("sgd", 100.0), *two, *row("nso", 99.0, epochs=20.0)])
    assert [(table.budget, table.seconds) for table in found] == [(1.0, 100.0), (2.0, 200.0)]
    assert labels(found[1]) == ["sam (40 epochs)", "sgd"]  # 2x is 80 epochs
    # SAM and NSO at equal epochs are in that table already
    assert timed([*row("sgd", 100.0), *row("sam", 200.0), *row("nso", 200.0)]) == []


def test_one_optimizer_may_have_several_rows_each_with_its_epochs():
    found = timed([*row("sgd", 100.0), *row("sam", 100.0, epochs=20.0), *row("sam", 104.0, epochs=21.0)])
    assert labels(found[0]) == ["sam (20 epochs)", "sam (21 epochs)", "sgd"]
    assert names(board([*row("sgd", 100.0), *row("sam", 100.0, epochs=20.0)])) == ("sam", "sgd")


def test_without_a_one_gradient_row_at_the_tasks_epochs_there_is_no_budget():
    assert timed([*row("sam", 100.0), *row("nso", 100.0)]) == []
    assert timed([*row("sgd", 100.0, epochs=80.0), *row("sam", 100.0)]) == []


def test_a_row_with_a_failed_run_sets_no_budget():
    broken = [*row("sgd", 50.0, rho=0.1), record("sgd", 9, rho=0.1, failed=True)]
    (table,) = timed([*row("sgd", 100.0), *row("sam", 100.0), *broken])
    assert table.seconds == 100.0


def test_one_row_is_no_table():
    assert timed(row("sgd", 100.0)) == []


def test_machines_never_mix():
    fast = [*row("sgd", 10.0, fingerprint="cpu B"), *row("sam", 10.5, fingerprint="cpu B")]
    # another seed of SGD here, so that no run is the same one twice
    slow = [record("sgd", 7, train_s=100.0), record("nso", 7, train_s=105.0)]
    found = timed([*fast, *slow])
    assert [(table.fingerprints, labels(table), table.seconds) for table in found] == [
        (("cpu A",), ["nso", "sgd"], 100.0),
        (("cpu B",), ["sam", "sgd"], 10.0),
    ]
    assert [table.rows[1].n for table in found] == [1, 3]


def test_a_row_that_failed_throughout_stands_where_it_was_heading():
    # half of the steps in 50 s: the whole run would have taken 100 s
    lost = [record("sam", seed, failed=True, train_s=50.0) for seed in range(3)]
    (table,) = timed([*row("sgd", 100.0), *lost])
    assert labels(table) == ["sam", "sgd"]
    assert (table.rows[0].verdict.word, table.rows[0].train_s) == ("failed", None)
    early = [record("sam", seed, failed=True, train_s=0.0) for seed in range(3)]
    assert timed([*row("sgd", 100.0), *early]) == []


def test_the_comparison_is_paired_by_seed():
    base = wavy(0.6)
    records = [*seeds("sgd", base), *seeds("sam", [x + 0.02 for x in base], epochs=20.0)]
    (table,) = timed(records)
    assert [row.verdict.word for row in table.rows] == ["best", "worse"]
    assert table.rows[1].verdict.difference == pytest.approx(-0.02)
    assert table.correlation == pytest.approx(1.0)


def test_runs_of_a_row_are_named_by_seed():
    records = seeds("sgd", [0.6, 0.7, 0.8])
    found = board(records).tables[0].rows[0]
    assert found.runs == tuple(one.run_id for one in records)


def test_the_report_says_what_the_budget_is_and_that_a_busy_machine_spoils_it():
    records = [*row("sgd", 100.0), *row("sam", 98.0, epochs=20.0)]
    page = markdown.render(board(records))
    assert "## images on images-jpeg: equal seconds, 1x (untuned: not a ranking)" in page
    assert "within 10 % of 100 s: 1x the fastest row of one gradient a step at 40 epochs" in page
    assert "Seconds compare only where the machine was otherwise idle" in page
    lines = [line.split(",") for line in csv_.render(board(records)).splitlines()]
    budget, epochs = lines[0].index("budget_s"), lines[0].index("epochs")
    assert {(line[budget], line[epochs]) for line in lines[1:] if "seconds" in line} == {
        ("100.0", "20.0"),
        ("100.0", "40.0"),
    }


def test_the_same_tables_for_any_order():
    records = [*row("sgd", 100.0), *row("sam", 98.0, epochs=20.0), *row("nso", 95.0, epochs=20.0),
               record("sgd", 7, fingerprint="cpu B"), record("sam", 7, fingerprint="cpu B")]  # fmt: skip
    pages = set()
    for i in range(5):
        random.Random(i).shuffle(records)
        pages.add(csv_.render(board(records)))
    assert len(pages) == 1
