"""The views of a leaderboard: which runs of one stratum have equal budgets, by unit (protocol rule 2).

- epochs: the run's epochs equal the budget's;
- sample-gradients: the run's metered cost equals that of one gradient per step over the budget's epochs;
- seconds: on one hardware and software (rule 5), rows whose median training time is near the budget. 1x is
  the median time of the fastest row with one gradient per step and the task's own epochs.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from suite.entries import selection
from suite.report.runs import Run

REPORT_VIEWS = (*selection.VIEWS, "seconds")
"""Views of a leaderboard, in its order; no run is planned by seconds, as they are known only afterwards."""

BUDGETS = (1.0, 2.0, 4.0)
"""Budgets, in multiples of the task's epochs, that every optimizer may use (rule 2)."""

NEAR = 0.1
"""Largest relative deviation of a row's median from a budget in seconds."""


@dataclass(frozen=True)
class Place:
    """The conditions, besides the stratum, that runs of one table share."""

    view: str
    budget: float
    """Multiple of the task's budget."""
    fingerprint: str = ""
    """Hardware and software, in the view by seconds."""
    seconds: float | None = None
    """The budget in seconds, in that view."""


Group = tuple[bytes, float, float]
"""Key of runs of one optimizer with the same epochs: optimizer, rounded epochs, exact epochs."""


def row_key(run: Run, view: str) -> tuple[bytes, float]:
    """Return the key of a run's row: in the view by seconds, an optimizer has a row per number of epochs."""
    return run.keys.optimizer, run.keys.epochs if view == "seconds" else 0.0


def places(runs: Sequence[Run], epochs: float) -> dict[Place, list[Run]]:
    """Sort the runs of one stratum into tables; each run is in at least one.

    Args:
        runs: of one stratum, with one run per optimizer, epochs and seed.
        epochs: the task's budget.

    """
    found = _planned(runs, epochs) | _timed(runs, epochs)
    by_epochs = [_ids(some) for place, some in found.items() if place.view == "epochs"]
    return {
        place: some
        for place, some in found.items()
        # Except at 1x, a view gets a table only if equal epochs do not already compare the same runs.
        if place.view == "epochs" or place.budget == 1 or not any(_ids(some) <= ids for ids in by_epochs)
    }


def _ids(runs: Sequence[Run]) -> set[str]:
    return {run.run_id for run in runs}


def _planned(runs: Sequence[Run], epochs: float) -> dict[Place, list[Run]]:
    groups: dict[Group, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.keys.optimizer, run.keys.epochs, run.record.spec.epochs].append(run)
    nearest = _nearest(groups, epochs)
    found: dict[Place, list[Run]] = defaultdict(list)
    for group, some in groups.items():
        for place in _planned_places(group, epochs, nearest):
            found[place] += some
    return found


def _nearest(groups: Mapping[Group, Sequence[Run]], epochs: float) -> dict[tuple[bytes, float], float]:
    """By optimizer and budget, the epochs with the nearest cost: a row has each seed once."""
    off: dict[tuple[bytes, float], set[tuple[float, float]]] = defaultdict(set)
    for (optimizer, rounded, _), runs in groups.items():
        for b in BUDGETS:
            distances = [_off_cost(run, b * epochs) for run in runs if _costs(run, b * epochs)]
            if distances:
                off[optimizer, b].add((min(distances), rounded))
    return {key: min(some)[1] for key, some in off.items()}


def _planned_places(group: Group, epochs: float, nearest: Mapping[tuple[bytes, float], float]) -> list[Place]:
    optimizer, rounded, exact = group
    equal = [b for b in BUDGETS if nearest.get((optimizer, b)) == rounded]
    times = exact / epochs
    named = [b for b in BUDGETS if math.isclose(times, b, rel_tol=1e-6)]
    return [
        *(Place("sample-gradients", b) for b in equal),
        *(Place("epochs", b) for b in named or ([] if equal else [round(times, 6)])),
    ]


def _off_cost(run: Run, epochs: float) -> float:
    """Return the distance of a run's cost from that of one gradient per step over these epochs."""
    return abs(run.planned - epochs * run.record.cost.n_train)


def _costs(run: Run, epochs: float) -> bool:
    """Whether a run's cost equals that of one gradient per step over these epochs."""
    # Tolerance of two steps: budgets are whole steps, and the last batch of an epoch may be smaller.
    cost = run.record.cost
    slack = 2 * cost.sample_gradients / max(1, cost.steps) + 1e-6 * epochs * cost.n_train
    return _off_cost(run, epochs) <= slack


def _timed(runs: Sequence[Run], epochs: float) -> dict[Place, list[Run]]:
    by_machine: dict[str, dict[tuple[bytes, float], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.failed or not run.moved:  # a failed run has no seconds to compare, but must stay visible
            by_machine[run.fingerprint][row_key(run, "seconds")].append(run)
    found: dict[Place, list[Run]] = {}
    for machine, rows in sorted(by_machine.items()):
        times = {key: took for key, some in rows.items() if (took := _row_seconds(some)) is not None}
        plain = [took for key, took in times.items() if _is_plain(rows[key], epochs)]
        for budget in BUDGETS if plain else ():
            seconds = budget * min(plain)
            near = [key for key, took in times.items() if abs(took - seconds) <= NEAR * seconds]
            if len(near) > 1:
                found[Place("seconds", budget, machine, seconds)] = [run for key in near for run in rows[key]]
    return found


def _is_plain(row: Sequence[Run], epochs: float) -> bool:
    """Whether a row may set the budget: one gradient per step, the task's own epochs, no failed run."""
    return all(
        not run.failed and math.isclose(run.record.spec.epochs, epochs, rel_tol=1e-6) and _costs(run, epochs)
        for run in row
    )


def _row_seconds(row: Sequence[Run]) -> float | None:
    """Return the median training time of completed runs, or the projected median if none completed.

    A row of failed runs has a place too (rule 24): a view without it would hide the failures.
    """
    completed = [run.record.cost.train_s for run in row if not run.failed]
    return _median(completed) or _median(_projected(row))


def _projected(row: Sequence[Run]) -> Iterator[float]:
    for run in row:
        cost = run.record.cost
        if cost.sample_gradients:
            yield cost.train_s * run.planned / cost.sample_gradients


def _median(seconds: Iterable[float]) -> float | None:
    known = [x for x in seconds if x > 0]
    return statistics.median(known) if known else None
