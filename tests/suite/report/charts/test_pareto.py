"""The Pareto front, against its definition."""

from hypothesis import given
from hypothesis import strategies as st

from suite.report.charts.pareto import front, staircase

numbers = st.integers(0, 8).map(float)  # few values, so that ties abound
points = st.lists(st.tuples(numbers, numbers), max_size=12)


def dominates(a, b):
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(points)
def test_the_front_is_what_nothing_dominates(some):
    expected = sorted({a for a in some if not any(dominates(b, a) for b in some)})
    assert front(some) == expected


@given(points, numbers)
def test_the_staircase_is_the_best_score_for_a_cost_or_less(some, cost):
    corners = staircase(front(some), 10.0)
    below = [score for at, score in corners if at <= cost]
    affordable = [score for at, score in some if at <= cost]
    assert (below[-1] if below else None) == (max(affordable) if affordable else None)


def test_the_staircase_goes_to_the_end_of_the_axis():
    assert staircase([(1.0, 5.0), (2.0, 6.0)], 3.0) == [(1.0, 5.0), (2.0, 6.0), (3.0, 6.0)]
    assert staircase([], 3.0) == []
