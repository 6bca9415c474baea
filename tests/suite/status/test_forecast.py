"""What is expected of runs, from what others took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from suite.spec import RunSpec
from suite.status.forecast import Finished, Forecast, Measured
from suite.store.folders import Store
from tests.suite.fake_records import make_record, make_run, make_spec


def measured(optimizer: str, train_s: float, gradients: int = 1000, **params: Any) -> Measured:
    return Measured(
        make_spec(optimizer=optimizer, **params), 2.0, gradients, train_s, evaluate_s=1.0, measure_s=5.0
    )


def spec(optimizer: str, **params: Any) -> RunSpec:
    return make_spec(seed=9, optimizer=optimizer, **params)


def test_the_closest_likeness_counts() -> None:
    some = [measured("sam", 20.0, 2000, rho=0.1), measured("sam", 60.0, 2000, rho=0.2), measured("sgd", 10.0)]
    forecast = Forecast(some)
    for name, rho, gradients, seconds, like in (
        ("sam", 0.1, 2000, 20.0, "hyperparameters"),
        ("sam", 0.3, 2000, 40.0, "optimizer"),
        ("nso", 0.1, 1000, 50.0 / 3, "task"),
    ):
        guess = forecast.seconds(spec(name, rho=rho), gradients)
        assert guess is not None
        assert (guess.seconds, guess.like) == (pytest.approx(seconds + 1 + 5), like)


def test_without_a_count_of_gradients_it_goes_by_epochs() -> None:
    guess = Forecast([measured("sgd", 10.0)]).seconds(changed(spec("sgd"), epochs=6.0))
    assert guess is not None
    assert guess.seconds == pytest.approx(30 + 3 + 5)


@pytest.mark.parametrize(
    ("every", "epochs", "wanted_s"),
    [(0, 20.0, 5.0), (1, 4.0, 10.0), (2, 4.0, 10.0), (2, 5.0, 15.0), (2, 1.0, 5.0)],
)
def test_measures_along_training_take_their_time_each(every: int, epochs: float, wanted_s: float) -> None:
    """Of 2 epochs it is known that their measures took 5 s together."""
    known = replace(measured("sgd", 10.0), measure_every=every)
    asked = changed(spec("sgd"), epochs=epochs)
    forecast = Forecast([known])
    assert forecast.measure_s(asked) == pytest.approx(wanted_s)
    guess = forecast.seconds(asked)
    assert guess is not None
    assert guess.seconds == pytest.approx(5.5 * epochs + wanted_s)


@pytest.mark.parametrize(("measured_at", "every"), [((), 0), ((3,), 3), ((2, 4, 5), 2)])
def test_how_often_a_run_measures_is_seen_in_its_rows(
    tmp_path: Path, measured_at: tuple[int, ...], every: int
) -> None:
    store, done = Store(tmp_path), make_spec()
    with make_run(store, done).start() as attempt:
        for epoch in range(1, 6):
            look = {"lambda_max": 1.0, "sharpness_train_loss": 0.5} if epoch in measured_at else {}
            attempt.metrics({"epoch": epoch, "step": 6 * epoch, "train_loss": 1.0, **look})
        attempt.publish(make_record(done))
    (record,) = store.index()
    found = Finished(store)(record)
    assert found is not None
    assert found.measure_every == every


@pytest.mark.parametrize(
    "change",
    [{"precision": "bf16"}, {"device": "cuda"}, {"threads": 2}, {"compile": True}, {"data": "other"}],
)
def test_what_ran_otherwise_tells_nothing(change: dict[str, Any]) -> None:
    assert Forecast([measured("sgd", 10.0)]).seconds(changed(spec("sgd"), **change), 1000) is None


def test_an_unfinished_run_tells_nothing_of_the_measures() -> None:
    unfinished = replace(measured("sgd", 10.0), measure_s=None)
    assert Forecast([unfinished]).measure_s(spec("sgd")) == 0.0
    assert Forecast([unfinished, measured("sgd", 10.0)]).measure_s(spec("sgd")) == 5.0


def test_records_that_do_not_tell_are_passed_over(tmp_path: Path) -> None:
    read, record = Finished(Store(tmp_path)), make_record(make_spec())
    assert read(make_record(make_spec(), "failed")) is None
    assert read(changed(record, cost=changed(record.cost, train_s=0.0))) is None
    found = read(record)
    assert found is not None
    assert (found.train_s, found.measure_s) == (36.0, 1.0)
    assert Forecast([found]).n_train(record.spec) == 90


def test_a_run_that_takes_losses_alone_is_timed_like_any_other(tmp_path: Path) -> None:
    record = make_record(make_spec())
    cost = changed(record.cost, sample_gradients=100 / 3, gradients=0, losses=100)
    found = Finished(Store(tmp_path))(changed(record, cost=cost))
    assert found is not None
    guess = Forecast([found]).seconds(spec("sgd"), 200 / 3)
    assert guess is not None
    assert guess.seconds == pytest.approx(2 * 36 + 3 + 1)
