"""Tests of metrics on their scale, and of inconsistent descriptions of tasks."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from suite.metric import ACCURACY, LOSS, Description, Metric

ERROR = Metric("recovery_error", "lower", scale="log", margin=0.1, floor=1e-8)


def test_a_logarithmic_metric_is_compared_by_its_logarithm() -> None:
    assert ERROR.on_scale(1e-3) == pytest.approx(-3.0)  # log10 rounds in the last digit
    assert LOSS.on_scale(0.25) == 0.25


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-9, 1e-8])
def test_what_is_not_resolved_counts_as_the_floor(value: float) -> None:
    assert ERROR.at_floor(value)
    assert ERROR.on_scale(value) == pytest.approx(-8.0)


def test_what_is_above_the_floor_is_itself() -> None:
    assert not ERROR.at_floor(1.1e-8)
    assert not LOSS.at_floor(0.0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "Test Error"}, "metric Test Error: a name is lower-case words joined by underscores"),
        ({"margin": 0.0}, "margin is 0.0; valid: a number above 0, or None"),
        ({"margin": math.nan}, "margin is nan"),
        ({"margin": 0.1, "better": "neither"}, "it has a margin but no direction"),
        ({"better": "down"}, "metric error: better is 'down'; valid: higher, lower, neither"),
        ({"scale": "log10"}, "metric error: scale is 'log10'; valid: linear, log"),
        ({"scale": "log"}, "scale 'log' and floor, the smallest value resolved, go together"),
        ({"floor": 0.1}, "go together"),
        ({"scale": "log", "floor": 0.0}, "floor is 0.0; valid: a number above 0"),
    ],
)
def test_metrics_that_make_no_sense(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Metric(**{"name": "error", "better": "lower"} | fields)


def described(**fields: Any) -> Description:
    given: dict[str, Any] = {"tier": "smoke", "epochs": 1.0, "metrics": (ACCURACY, LOSS)}
    return Description(**given | fields)


def test_rows_are_compared_by_the_first_metric_on_the_first_test_split() -> None:
    task = described(tests=("home", "shifted"), extras=("clean",))
    assert task.primary is ACCURACY
    assert task.scored == "home"
    assert task.evaluated == ("home", "shifted", "validation", "clean")


def test_without_a_test_rows_are_compared_on_validation_or_on_training() -> None:
    assert described(tests=()).scored == "validation"
    bare = described(tests=(), validation="")
    assert bare.scored == "train"
    assert bare.evaluated == ("train",)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"epochs": 0.0}, "epochs is 0; valid: a number above 0"),
        ({"epochs": math.nan}, "epochs is nan; valid: a number above 0"),
        ({"tests": ("test", "test")}, "splits: the name 'test' stands twice"),
        ({"tests": ("train",)}, "splits: the name 'train' stands twice ('train' is the training split)"),
        ({"extras": ("validation",)}, "splits: the name 'validation' stands twice"),
        ({"metrics": (LOSS, LOSS)}, "metrics: the name 'loss' stands twice"),
        ({"metrics": (Metric("flips", "neither"),)}, "the first, flips, is compared and needs a direction"),
    ],
)
def test_descriptions_that_make_no_sense(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        described(**fields)
