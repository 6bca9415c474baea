"""Tests of search spaces: their values, text, errors and quantiles."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from suite.errors import SteppeError
from suite.space import ZERO_SHARE, Choice, LogUniform, Space, Uniform, Value, from_dict, to_dict

BELOW_1 = math.nextafter(1.0, 0.0)
LIBM = 1e-12
"""Relative tolerance: exp and log err by about an ulp; exp multiplies that by a logarithm of at most 1400."""

quantiles = st.floats(0.0, 1.0, exclude_max=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(1e-300, 1e300)
scalars = st.booleans() | st.integers() | finite | st.text()


def increasing(low: float, high: float) -> bool:
    return low < high and math.isfinite(high - low)


log_uniforms = (
    st.tuples(positive, positive, st.booleans())
    .filter(lambda drawn: increasing(*drawn[:2]) and math.isfinite(drawn[1] / drawn[0]))
    .map(lambda drawn: LogUniform(*drawn))
)
uniforms = (
    st.tuples(finite, finite).filter(lambda drawn: increasing(*drawn)).map(lambda drawn: Uniform(*drawn))
)
choices = st.lists(scalars, min_size=2, max_size=20, unique=True).map(lambda drawn: Choice(tuple(drawn)))
spaces = log_uniforms | uniforms | choices


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (LogUniform(1e-4, 1), "log-uniform [0.0001, 1]"),
        (LogUniform(1e-5, 1e-2, zero=True), "0 or log-uniform [1e-05, 0.01]"),
        (LogUniform(0.123456789, 2e6), "log-uniform [0.123456789, 2e+06]"),
        (Uniform(0, 1), "uniform [0, 1]"),
        (Uniform(-0.5, 2.25), "uniform [-0.5, 2.25]"),
        (Choice((0.8, 0.9, 0.99)), "one of 0.8, 0.9, 0.99"),
        (Choice((1, 2, 1000000)), "one of 1, 2, 1000000"),
        (Choice((True, False)), "one of true, false"),
        (Choice(("sgd", "adam")), "one of sgd, adam"),
    ],
    ids=str,
)
def test_text(space: Space, text: str) -> None:
    assert str(space) == text


@given(log_uniforms | uniforms)
def test_text_gives_the_bounds_exactly(space: LogUniform | Uniform) -> None:
    low, high = re.search(r"\[(.*), (.*)\]", str(space)).groups()  # type: ignore[union-attr]
    assert (float(low), float(high)) == (space.low, space.high)


@pytest.mark.parametrize(
    ("space", "data"),
    [
        (LogUniform(1e-4, 1), {"kind": "log-uniform", "low": 1e-4, "high": 1.0, "zero": False}),
        (Uniform(0, 1), {"kind": "uniform", "low": 0.0, "high": 1.0}),
        (Choice((1, "a")), {"kind": "choice", "values": [1, "a"]}),
    ],
    ids=str,
)
def test_data(space: Space, data: dict[str, Any]) -> None:
    assert to_dict(space) == data


@given(spaces)
def test_data_survives_json(space: Space) -> None:
    again = from_dict(json.loads(json.dumps(to_dict(space))))
    assert again == space
    assert (hash(again), repr(again)) == (hash(space), repr(space))  # values and bounds keep their types


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "KeyError: 'kind'"),
        ({"kind": "normal", "low": 0.0, "high": 1.0}, "KeyError: 'normal'"),
        ({"kind": ["uniform"]}, "TypeError: .*unhashable"),
        ({"kind": "uniform", "low": 0.0}, "TypeError: .*high"),
        ({"kind": "uniform", "low": 0.0, "high": 1.0, "zero": True}, "TypeError: .*zero"),
        ("uniform", "ValueError"),
        ({"kind": "uniform", "low": 1.0, "high": 0.0}, r"uniform \[1, 0\] is not a search space"),
        ({"kind": "choice", "values": "ab"}, "Choice.* is not a search space"),
    ],
)
def test_what_is_no_space_is_refused(data: Any, message: str) -> None:
    with pytest.raises(SteppeError, match=message) as caught:
        from_dict(data)
    assert "is not a search space" in str(caught.value)


@pytest.mark.parametrize("cls", [LogUniform, Uniform])
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1.0, 1.0),
        (2.0, 1.0),
        (math.nan, 1.0),
        (0.5, math.nan),
        (0.5, math.inf),
        (0.5, 10**400),
        (0.5, "1"),
        (None, 1.0),
        (0.5, True),
    ],
)
def test_bounds_that_do_not_increase_are_refused(cls: Callable[..., Space], low: Any, high: Any) -> None:
    with pytest.raises(
        SteppeError, match=r"uniform \[.*\] is not a search space; valid: numbers .*low < high"
    ) as e:
        cls(low, high)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (-2.0, -1.0), (5e-324, 1.0)])
def test_a_logarithm_needs_positive_bounds_and_a_ratio(low: float, high: float) -> None:
    with pytest.raises(SteppeError, match=r"0 < low < high with a finite ratio; for 0 .* zero=True"):
        LogUniform(low, high)


def test_a_uniform_space_needs_a_difference() -> None:
    assert Uniform(-1.0, 0.0).contains(-0.5)
    with pytest.raises(SteppeError, match="with a finite difference"):
        Uniform(-1.7e308, 1.7e308)


@pytest.mark.parametrize(
    "values",
    [
        (),
        (1,),
        (1, 1),
        (1, 2, 1.0),
        (1, True),
        "ab",
        None,
        (1, None),
        (1, (2,)),
        (0.5, math.nan),
        (0.5, math.inf),
    ],
    ids=repr,
)
def test_choices_are_at_least_two_different_scalars(values: Any) -> None:
    with pytest.raises(SteppeError, match=r"Choice\(values=.* at least two different values") as caught:
        Choice(values)
    assert "\n" not in str(caught.value)


def test_a_list_of_choices_is_that_tuple() -> None:
    assert Choice([1, 2]) == Choice((1, 2))  # type: ignore[arg-type]


LOG, ZERO, FLAT = LogUniform(1e-4, 1), LogUniform(1e-5, 1e-2, zero=True), Uniform(-2, 6)


@pytest.mark.parametrize(
    ("space", "inside", "outside"),
    [
        (LOG, [1e-4, 0.5, 1.0, 1], [0.0, 0, math.nextafter(1e-4, 0), 1.1, -0.5, math.nan, True, "0.5"]),
        (ZERO, [0, 0.0, 1e-5, 1e-2], [1e-6, -1e-5, 0.1, False, "0"]),
        (FLAT, [-2, -2.0, 0, 6.0], [-2.1, 6.1, math.inf, math.nan, True, "0"]),
        (Choice((0.5, 1)), [0.5, 1, 1.0], [0.7, 2, True, "0.5", math.nan]),
        (Choice((False, 3)), [False, 3], [0, 0.0, True]),
        (Choice(("a", "b")), ["a", "b"], ["c", "ab", 0]),
    ],
    ids=str,
)
def test_contains(space: Space, inside: list[Value], outside: list[Value]) -> None:
    assert [value for value in inside if not space.contains(value)] == []
    assert [value for value in outside if space.contains(value)] == []


@pytest.mark.parametrize(
    ("space", "u", "value"),
    [
        (LOG, 0.0, 1e-4),
        (ZERO, 0.0, 0.0),
        (ZERO, 1 / 16, 0.0),
        (ZERO, math.nextafter(1 / 8, 0), 0.0),
        (ZERO, 1 / 8, 1e-5),
        (FLAT, 0.0, -2.0),
        (FLAT, 0.25, 0.0),
        (FLAT, 0.875, 5.0),
        (Choice(("a", "b", "c", "d")), 0.0, "a"),
        (Choice(("a", "b", "c", "d")), math.nextafter(0.25, 0), "a"),
        (Choice(("a", "b", "c", "d")), 0.25, "b"),
        (Choice(("a", "b", "c", "d")), 0.5, "c"),
        (Choice(("a", "b", "c", "d")), BELOW_1, "d"),
    ],
)
def test_value_at_a_quantile(space: Space, u: float, value: Value) -> None:
    assert space.unit(u) == value


@pytest.mark.parametrize(
    ("space", "u", "value"),
    [
        (LOG, 0.25, 1e-3),
        (LOG, 0.5, 1e-2),
        (LOG, BELOW_1, 1.0),
        (ZERO, 1 / 8 + 7 / 8 / 3, 1e-4),  # a third of the way from 1e-5 to 1e-2
        (ZERO, 1 / 8 + 7 / 8 * 2 / 3, 1e-3),
        (ZERO, BELOW_1, 1e-2),
        (FLAT, BELOW_1, 6.0),
    ],
)
def test_value_at_a_quantile_up_to_rounding(space: Space, u: float, value: float) -> None:
    assert space.unit(u) == pytest.approx(value, rel=LIBM)


@pytest.mark.parametrize("space", [LOG, ZERO, FLAT, Choice((1, 2))], ids=str)
@pytest.mark.parametrize("u", [-0.1, 1.0, 1.5, math.nan])
def test_no_quantile_lies_outside(space: Space, u: float) -> None:
    with pytest.raises(ValueError, match=r"a quantile lies in \[0, 1\)"):
        space.unit(u)


@given(spaces, quantiles)
@example(LogUniform(0.006, 0.007), BELOW_1)  # without clipping, an ulp beyond the end
@example(LogUniform(1e-300, 1e5, zero=True), BELOW_1)
@example(Uniform(0.1, 0.7), BELOW_1)
@example(Choice(tuple(range(49))), BELOW_1)
def test_every_quantile_gives_a_value_of_the_space(space: Space, u: float) -> None:
    assert space.contains(space.unit(u))


@given(log_uniforms | uniforms, quantiles, quantiles)
@example(LogUniform(1e-5, 1e-2, zero=True), math.nextafter(ZERO_SHARE, 0), ZERO_SHARE)
def test_values_rise_with_their_quantiles(space: LogUniform | Uniform, u: float, v: float) -> None:
    assert space.unit(min(u, v)) <= space.unit(max(u, v))


@given(choices, quantiles, quantiles)
def test_choices_follow_their_order(space: Choice, u: float, v: float) -> None:
    first, second = (space.values.index(space.unit(w)) for w in (min(u, v), max(u, v)))
    assert first <= second


@given(choices)
def test_every_choice_has_its_quantile(space: Choice) -> None:
    n = len(space.values)
    assert tuple(space.unit((i + 0.5) / n) for i in range(n)) == space.values


@given(st.floats(0.0, 1.0), st.booleans())
def test_every_value_has_its_quantile(share: float, zero: bool) -> None:
    low, high = 1e-5, 1e-2
    value = low * (high / low) ** share
    u = ZERO_SHARE + (1 - ZERO_SHARE) * share if zero else share
    assert LogUniform(low, high, zero).unit(min(u, BELOW_1)) == pytest.approx(value, rel=LIBM)
    value = low + share * (high - low)
    assert Uniform(low, high).unit(min(share, BELOW_1)) == pytest.approx(value, rel=LIBM)


@given(spaces)
def test_extremes_are_in_the_space_and_bound_it(space: Space) -> None:
    extremes = space.extremes()
    assert all(space.contains(value) for value in extremes)
    if not isinstance(space, Choice):
        values = [space.unit(u) for u in (0.0, 0.1, 0.3, 0.9, BELOW_1)]
        assert min(extremes) <= min(values) <= max(values) <= max(extremes)  # type: ignore[type-var]
