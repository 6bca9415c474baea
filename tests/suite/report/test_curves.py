"""Curves over seeds, against closed forms."""

import statistics

import pytest

from suite.metric import LOSS, Metric
from suite.report.columns import LEARNING_RATE, RowColumn
from suite.report.curves import curves
from suite.report.stats import mean_interval

TRAIN = RowColumn("train_loss", "training loss", LOSS)


def run(losses, first=1, per_epoch=100):
    return [{"epoch": first + i, "sample_gradients": (first + i) * per_epoch, "train_loss": loss}
            for i, loss in enumerate(losses)]  # fmt: skip


def test_mean_and_t_band_at_every_epoch():
    (curve,) = curves({"sgd": [run([3.0, 1.0]), run([2.0, 1.0]), run([1.0, 1.0])]}, TRAIN)
    half = 4.302652729911275 * statistics.stdev([3, 2, 1]) / 3**0.5  # t_{2, 0.975}
    assert (curve.optimizer, curve.column, curve.along, curve.n) == ("sgd", "train_loss", "epoch", 3)
    assert curve.x == (1, 2)
    assert curve.mean == (2.0, 1.0)
    assert curve.low[0] == pytest.approx(2 - half)
    assert curve.high == (pytest.approx(2 + half), 1.0)
    assert mean_interval([3.0, 2.0, 1.0]).high == curve.high[0]


def test_a_run_that_ended_early_contributes_to_the_epochs_that_it_has():
    (curve,) = curves({"sgd": [run([3.0, 1.0, 0.5]), run([2.0])]}, TRAIN)
    assert curve.counts == (2, 1, 1)
    assert curve.mean == (2.5, 1.0, 0.5)
    assert curve.low[1:] == curve.high[1:] == (None, None)
    assert curve.n == 2


def test_one_run_has_no_band():
    (curve,) = curves({"sgd": [run([3.0, 1.0])]}, TRAIN)
    assert curve.low == curve.high == (None, None)


def test_along_the_cost():
    rows = {"sgd": [run([3.0, 1.0])], "sam": [run([3.0, 1.0], per_epoch=200)]}
    sam, sgd = curves(rows, TRAIN, x="sample_gradients")
    assert (sam.optimizer, sam.x, sgd.x) == ("sam", (200, 400), (100, 200))


def test_values_that_are_missing_or_not_finite_are_no_points():
    odd = [*run([3.0, float("nan"), 1.0]), {"epoch": 4}, {"train_loss": 1.0}]
    odd[2]["train_loss"] = None
    (curve,) = curves({"sgd": [odd, []], "sam": [[]], "nso": [run([None])]}, TRAIN)
    assert (curve.x, curve.mean, curve.n) == ((1,), (3.0,), 1)
    assert curves({"sgd": [run([3.0])]}, LEARNING_RATE) == []


def test_rows_in_any_order_make_one_curve_along_the_axis():
    (curve,) = curves({"sgd": [list(reversed(run([3.0, 2.0, 1.0])))]}, TRAIN)
    assert curve.x == (1, 2, 3)
    assert curve.mean == (3.0, 2.0, 1.0)


def test_on_a_log_scale_the_mean_is_geometric_and_the_floor_the_least():
    error = RowColumn("train_loss", "error", Metric("error", "lower", scale="log", floor=1e-8))
    (curve,) = curves({"sgd": [run([1e-2, 0.0]), run([1e-4, 1e-4]), run([1e-3, 1e-6])]}, error)
    assert curve.mean == pytest.approx((1e-3, 1e-6))
    half = 4.302652729911275 / 3**0.5  # in decades, of which the standard deviation is 1
    assert curve.low[0] == pytest.approx(1e-3 / 10**half)
    assert curve.high[0] == pytest.approx(1e-3 * 10**half)
