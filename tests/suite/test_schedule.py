import math
from itertools import pairwise

import pytest

from suite.schedule import SHARED, lr_factor
from suite.spec import resolve_params

T = 200


def factors(**overrides: float | str) -> list[float]:
    hyper = resolve_params(SHARED, overrides, "test")
    return [lr_factor(hyper, step, T) for step in range(T)]


def test_default_is_warm_up_over_five_percent_then_cosine_to_zero() -> None:
    f = factors()
    assert f[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert f[10] == 1.0
    assert f[105] == pytest.approx(0.5)  # half-way between steps 10 and 200
    assert all(a > b > 0 for a, b in pairwise(f[10:]))
    assert f[-1] == pytest.approx((1 + math.cos(math.pi * 189 / 190)) / 2)


def test_constant() -> None:
    assert factors(schedule="constant", warmup=0.0) == [1.0] * T


def test_step() -> None:
    f = factors(schedule="step", warmup=0.0)
    assert f[99] == 1.0
    assert f[100] == f[149] == 0.1
    assert f[150] == f[199] == pytest.approx(0.01)


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_stretches_with_the_budget(schedule: str) -> None:
    hyper = resolve_params(SHARED, {"schedule": schedule, "warmup": 0.0}, "test")
    assert [lr_factor(hyper, 4 * s, 400) for s in range(100)] == pytest.approx(
        [lr_factor(hyper, s, 100) for s in range(100)]
    )


def test_a_single_step_trains() -> None:
    assert lr_factor(resolve_params(SHARED, {}, "test"), 0, 1) == 1.0
