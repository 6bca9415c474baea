"""Expand the selectors, compare with the store, forecast the cost; no side effect."""

from __future__ import annotations

import argparse
import math
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from suite.cli import options
from suite.registry import Registry
from suite.select import declared_cost
from suite.spec import RunSpec, Task, canonical_json
from suite.store import Store

STATES = ("done", "failed", "running", "interrupted", "new")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_selectors(parser)
    options.add_store(parser)
    options.add_workers(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print what `steppe run` with the same options would do, and what it would cost."""
    registry = options.registry(args)
    specs = options.specs(args, registry)
    store = Store(options.store_root(args))
    records = store.index()
    planned = Planner(registry, records).plan(specs, _states(store, specs, records))
    workers = args.workers or options.default_workers(specs[0]) if specs else 1
    if args.json:
        options.print_json({"runs": [row.to_dict() for row in planned], **totals(planned, workers)})
        return 0
    print(render(planned, workers, store, shlex.join(["steppe", "run", *options.selector_arguments(args)])))
    return 0


def _states(store: Store, specs: list[RunSpec], records: list[dict[str, Any]]) -> dict[str, str]:
    finished = {record["run_id"]: record["status"] for record in records}
    folders = set(store.run_ids())
    states = {}
    for run_id in (spec.run_id for spec in specs):
        if run_id in finished:
            states[run_id] = "done" if finished[run_id] == "completed" else "failed"
        else:
            status = store.run(run_id).status() if run_id in folders else "queued"
            states[run_id] = "new" if status == "queued" else status
    return states


@dataclass(frozen=True)
class Planned:
    """A run of the plan: its state in the store and what it costs, as far as that can be known."""

    spec: RunSpec
    state: str
    task: str
    optimizer: str
    sample_gradients: int | None
    seconds: float | None

    @property
    def to_do(self) -> bool:
        """Whether `steppe run` would work on it."""
        return self.state not in ("done", "failed", "running")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {
            "run_id": self.spec.run_id,
            "state": self.state,
            "task": self.task,
            "optimizer": self.optimizer,
            "seed": self.spec.seed,
            "data": self.spec.data,
            "epochs": self.spec.epochs,
            "sample_gradients": self.sample_gradients,
            "seconds": self.seconds,
        }


class Planner:
    """Forecasts from declared costs and from the timings of the records at hand."""

    def __init__(self, registry: Registry, records: Iterable[Mapping[str, Any]]) -> None:
        self._registry = registry
        self._records = [r for r in records if r.get("status") == "completed"]

    def plan(self, specs: Iterable[RunSpec], states: Mapping[str, str]) -> list[Planned]:
        """Attach state and forecast to every run."""
        return [self._one(spec, states[spec.run_id]) for spec in specs]

    def _one(self, spec: RunSpec, state: str) -> Planned:
        gradients = self._sample_gradients(spec)
        return Planned(
            spec=spec,
            state=state,
            task=spec.task.label(self._registry.task(spec.task.name).entry.params),
            optimizer=spec.optimizer.label(self._registry.optimizer(spec.optimizer.name).entry.params),
            sample_gradients=gradients,
            seconds=None if gradients is None else self._seconds(spec, gradients),
        )

    def _sample_gradients(self, spec: RunSpec) -> int | None:
        """Multiply epochs, training examples and declared cost; None where that size is not declared."""
        task = self._registry.resolve_task(spec.task)
        n = n_train(task, spec.data)
        return None if n is None else round(spec.epochs * n * declared_cost(self._registry, spec.optimizer))

    def _seconds(self, spec: RunSpec, gradients: int) -> float | None:
        """Scale the seconds measured per sample-gradient on this task, of this optimizer if there are."""
        for key in (_key(spec.to_dict(), optimizer=True), _key(spec.to_dict(), optimizer=False)):
            if key in self._timings:
                per_gradient, rest = self._timings[key]
                return gradients * per_gradient + rest
        return None

    @cached_property
    def _timings(self) -> dict[str, tuple[float, float]]:
        seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for record in self._records:
            cost = record.get("cost") or {}
            if not cost.get("sample_gradients") or not cost.get("train_s"):
                continue
            rest = float(cost.get("evaluate_s") or 0.0) + float(cost.get("measure_s") or 0.0)
            timing = (float(cost["train_s"]) / float(cost["sample_gradients"]), rest)
            for by_optimizer in (True, False):
                seen[_key(record["spec"], optimizer=by_optimizer)].append(timing)
        return {key: (fmean(t[0] for t in rows), fmean(t[1] for t in rows)) for key, rows in seen.items()}


def _key(spec: Mapping[str, Any], *, optimizer: bool) -> str:
    """Name what a timing carries over to: the same task, device and precision, and if asked optimizer."""
    same = [spec["task"]["name"], spec["task"]["params"], spec["precision"], spec["device"], spec["threads"]]
    return canonical_json([*same, spec["compile"], spec["optimizer"]["name"] if optimizer else None])


def n_train(task: Task, data: str) -> int | None:
    """Training examples of the task on that data set, validation taken off; None where it is not declared."""
    drawn = task.n_train
    if drawn is None:
        drawn = next((d.n_train for d in task.data if d.name == data), None)
    return None if drawn is None else drawn - task.n_validation


def totals(planned: list[Planned], workers: int) -> dict[str, Any]:
    """Count by state and add up what is left; seconds are of the wall clock on `workers` processes."""
    left = [row for row in planned if row.to_do]
    gradients = [row.sample_gradients for row in left]
    times = [row.seconds for row in left]
    known = [t for t in times if t is not None]
    return {
        "n_runs": len(planned),
        "states": {state: n for state in STATES if (n := sum(row.state == state for row in planned))},
        "n_left": len(left),
        "sample_gradients_left": None if None in gradients else sum(g for g in gradients if g is not None),
        "seconds_left": None if None in times else math.fsum(known) / max(1, min(workers, len(left))),
        "workers": workers,
    }


def render(planned: list[Planned], workers: int, store: Store, run: str) -> str:
    """Write the plan for a person: a line a task and optimizer, the totals, the command."""
    groups: dict[tuple[str, str, float], list[Planned]] = defaultdict(list)
    for row in planned:
        groups[row.task, row.optimizer, row.spec.epochs].append(row)
    lines = [["task", "data", "optimizer", "epochs", "runs", *STATES, "sample-gradients a run", "time a run"]]
    for (task, optimizer, epochs), rows in groups.items():
        counts = [str(sum(row.state == state for row in rows)) for state in STATES]
        times = [row.seconds for row in rows if row.seconds is not None]
        cells = [task, rows[0].spec.data, optimizer, f"{epochs:g}", str(len(rows)), *counts]
        time = options.seconds(fmean(times)) if times else "not timed yet"
        lines.append([*cells, count(rows[0].sample_gradients), time])
    all_of = totals(planned, workers)
    left_s = all_of["seconds_left"]
    told = (
        f"about {options.seconds(left_s)} on {workers} process{'es' if workers > 1 else ''}"
        if left_s is not None
        else "time unknown: nothing like them was timed in this store"
    )
    if all_of["n_left"] == 0:
        told = "nothing to do"
    return "\n".join(
        [
            options.table(lines),
            "",
            f"{all_of['n_runs']} runs, {all_of['n_left']} to do in {store.root}: "
            f"{count(all_of['sample_gradients_left'])} sample-gradients, {told}",
            f"start them: {run}",
        ]
    )


def count(n: int | None) -> str:
    """Write a large count for a person: `54 k`, `10.8 M`, `1.35 G`."""
    if n is None:
        return "?"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return str(n)
