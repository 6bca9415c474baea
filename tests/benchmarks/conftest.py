"""Ratios between benchmark rows of one run, printed below pytest-benchmark's table."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


@dataclass
class Ratios:
    """Best times by row name, and which of them to divide: the best round, as other load only adds.

    A ratio that was measured in pairs, the reference timed right before each round, is its median.
    """

    best_s: dict[str, float] = field(default_factory=dict)
    paired: dict[tuple[str, str], float] = field(default_factory=dict)
    wanted: list[tuple[str, str, float, float | None]] = field(default_factory=list)

    def note(self, name: str, benchmark: BenchmarkFixture) -> None:
        if benchmark.stats is not None:  # None where benchmarks are disabled
            self.best_s[name] = benchmark.stats.stats.min

    def want(self, row: str, reference: str, times: float = 1.0, target: float | None = None) -> None:
        """Ask for time(row) / (times * time(reference)), to be at most `target`."""
        self.wanted.append((row, reference, times, target))

    def lines(self) -> Iterator[str]:
        for row, reference, times, target in self.wanted:
            ratio = self.paired.get((row, reference))
            if ratio is None and row in self.best_s and reference in self.best_s:
                ratio = self.best_s[row] / self.best_s[reference]
            if ratio is not None:
                ratio /= times
                goal = (
                    "" if target is None else f"  target {target:.2f} {'ok' if ratio <= target else 'MISSED'}"
                )
                per = f"{times:g} x " if times != 1 else ""
                yield f"{row:<44} / {per}{reference:<40} {ratio:6.3f}{goal}"


RATIOS = Ratios()


@pytest.fixture
def ratios() -> Ratios:
    return RATIOS


@pytest.fixture
def timed(benchmark: BenchmarkFixture, ratios: Ratios) -> Callable[..., None]:
    """Time `step()` for `rounds` rounds, each after an untimed `setup()`, as the row `name`."""

    def run(
        name: str, step: Callable[[], object], setup: Callable[[], None], rounds: int, iterations: int = 1
    ) -> None:
        benchmark.name = name
        if iterations == 1:
            benchmark.pedantic(step, setup=setup, rounds=rounds, warmup_rounds=2)
        else:
            setup()
            benchmark.pedantic(step, rounds=rounds, iterations=iterations, warmup_rounds=2)
        ratios.note(name, benchmark)

    return run


@pytest.fixture
def timed_in_pairs(benchmark: BenchmarkFixture, ratios: Ratios) -> Callable[..., None]:
    """Time `step()`, `iterations` times a round, as the row `name`; before each round time `reference()`.

    The median over rounds of their ratio survives a machine whose speed drifts.
    """

    def run(
        name: str,
        step: Callable[[], object],
        reference_name: str,
        reference: Callable[[], object],
        rounds: int,
        iterations: int,
    ) -> None:
        pairs: list[list[float]] = []

        def repeat(function: Callable[[], object]) -> float:
            started = time.perf_counter()
            for _ in range(iterations):
                function()
            return time.perf_counter() - started

        benchmark.name = name
        benchmark.pedantic(
            lambda: pairs[-1].append(repeat(step)),
            setup=lambda: pairs.append([repeat(reference)]),
            rounds=rounds,
            warmup_rounds=2,
        )
        if benchmark.stats is not None:
            ratio = statistics.median(own / other for other, own in pairs[-rounds:])
            ratios.paired[name, reference_name] = benchmark.extra_info["ratio"] = ratio

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = list(RATIOS.lines())
    if lines:
        terminalreporter.section("ratios: medians of pairs, or of best times")
        for line in lines:
            terminalreporter.write_line(line)
