"""What is expected of runs, from what others took."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from suite.local.forecast import Forecast, Measured, of_record
from tests.suite.records import make_record, make_spec


def measured(optimizer: str, train_s: float, gradients: int = 1000, **params: Any) -> Measured:
    spec = make_spec(optimizer=optimizer, **params).to_dict()
    return Measured(spec, 2.0, gradients, train_s, evaluate_s=1.0, measure_s=5.0)


def spec(optimizer: str, **params: Any) -> dict[str, Any]:
    return make_spec(seed=9, optimizer=optimizer, **params).to_dict()


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
    guess = Forecast([measured("sgd", 10.0)]).seconds({**spec("sgd"), "epochs": 6.0})
    assert guess is not None
    assert guess.seconds == pytest.approx(30 + 3 + 5)


@pytest.mark.parametrize(
    ("every", "epochs", "wanted_s"),
    [(0, 20.0, 5.0), (1, 4.0, 10.0), (2, 4.0, 10.0), (2, 5.0, 15.0), (2, 1.0, 5.0), (None, 20.0, 5.0)],
)
def test_measures_along_training_take_their_time_each(
    every: int | None, epochs: float, wanted_s: float
) -> None:
    """Of 2 epochs it is known that their measures took 5 s together."""
    params = {} if every is None else {"measure_every": every}
    one = measured("sgd", 10.0)
    known = replace(one, spec={**one.spec, "task": {**one.spec["task"], "params": params}})
    asked = {**known.spec, "seed": 9, "epochs": epochs}
    forecast = Forecast([known])
    assert forecast.measure_s(asked) == pytest.approx(wanted_s)
    guess = forecast.seconds(asked)
    assert guess is not None
    assert guess.seconds == pytest.approx(5.5 * epochs + wanted_s)


@pytest.mark.parametrize(
    "change",
    [{"precision": "bf16"}, {"device": "cuda"}, {"threads": 2}, {"compile": True}, {"data": "other"}],
)
def test_what_ran_otherwise_tells_nothing(change: dict[str, Any]) -> None:
    assert Forecast([measured("sgd", 10.0)]).seconds({**spec("sgd"), **change}, 1000) is None


def test_an_unfinished_run_tells_nothing_of_the_measures() -> None:
    unfinished = replace(measured("sgd", 10.0), measure_s=None)
    assert Forecast([unfinished]).measure_s(spec("sgd")) == 0.0
    assert Forecast([unfinished, measured("sgd", 10.0)]).measure_s(spec("sgd")) == 5.0


def test_records_without_times_are_passed_over() -> None:
    record = make_record(make_spec())
    assert of_record(record) is None
    timed = {**record, "cost": {"sample_gradients": 10, "train_s": 1.0, "n_train": 90}}
    assert of_record({**timed, "status": "failed"}) is None
    found = of_record(timed)
    assert found is not None
    assert (found.train_s, found.measure_s) == (1.0, 0.0)
    assert Forecast([found]).n_train(timed["spec"]) == 90
