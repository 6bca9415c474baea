"""Promises of a task about its results: scores, metrics of splits, columns, facts and profiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from suite.conformance.promise import Faults, listed
from suite.conformance.tasks.case import TaskCase, unchanged
from suite.conformance.tasks.fake_data import ObservedData
from suite.engine.evaluate import check_number, check_value, evaluate
from suite.engine.record import concluded, watched
from suite.metric import PERCENT, Metric
from suite.problem import Evaluation, check_score_names

TOLERANCE = 1e-5
"""Tolerance of means over a few examples: float32 sums in another order or with another batch size."""

EPOCHS = 4
"""Epochs of the synthetic run for `watch` and `conclude`."""


def scores(case: TaskCase) -> Faults:
    """`scores` returns one number per example for each of `score_names`, and metrics are their means."""
    problem, split = case.problem(), case.task.description.scored
    case.shorten(problem)
    names = problem.score_names
    check_score_names(case.task.name, names)
    model = case.model(problem).eval()
    sums, units = dict.fromkeys(names, 0.0), 0
    for batch in problem.batches(split):
        with torch.no_grad(), unchanged("scores", problem, model, batch):
            given = problem.scores(problem.predict(model, batch), batch)
        if set(given) != set(names):
            yield f"scores gives {listed(given)}, score_names says {listed(names)}: name them all there"
        for name, value in given.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            yield shape != (len(batch),) and (
                f"score {name} has shape {shape} for {len(batch)} examples: one number an example, (n,), "
                "summed over its units"
            )
            sums[name] += float(value.double().sum())
        units += batch.units
    if not sums or not units:
        return "none are named" if units else f"not judged: split {split!r} is empty"
    metrics = case.evaluation(problem, model, split).metrics
    shared = [name for name in sums if name in metrics]
    for name in shared:
        mean = sums[name] / units
        yield not math.isclose(metrics[name], mean, rel_tol=TOLERANCE, abs_tol=TOLERANCE) and (
            f"evaluation of split {split!r} gives {name} = {metrics[name]:.6g}, its scores have the mean "
            f"{mean:.6g}: a metric has another name than a score that it is not the mean of"
        )
    return f"{listed(sums)}; evaluation has {'the mean of ' + listed(shared) if shared else 'other metrics'}"


def evaluates(case: TaskCase) -> Faults:
    """Every split has every declared metric, with a valid value and consistent evidence."""
    task = case.task
    problem, model, batch = case.ready()
    case.shorten(problem)
    for split in task.description.evaluated:
        with unchanged("evaluate", problem, model, batch):
            found = evaluate(problem, model, split)  # raises SteppeError if a metric is missing
        examples = sum(len(batch) for batch in problem.batches(split))
        if found.n != examples:
            yield f"evaluation of split {split!r} counts {found.n} examples of {examples}: n is of examples"
        for metric in task.metrics:
            yield from _faults_in_metric(metric, found, split)
    primary = task.metrics[0].name
    if not math.isfinite(found.metrics[primary]):
        yield f"{primary} on split {split!r} is {found.metrics[primary]} at the initial weights"
    of_training = problem.metrics({"loss": 1.0, **dict.fromkeys(problem.score_names, 0.5)})
    for metric in task.metrics:
        if metric.name in of_training:
            check_number(task.name, f"{metric.name} of training", of_training[metric.name])
    return f"{listed(metric.name for metric in task.metrics)} on {listed(task.description.evaluated)}"


def _faults_in_metric(metric: Metric, found: Evaluation, split: str) -> Iterator[object]:
    name, value, right = metric.name, float(found.metrics[metric.name]), found.right.get(metric.name)
    if metric.unit == PERCENT and not 0 <= value <= 1:
        yield f"{name} on split {split!r} is {value:g} with the unit %: give a fraction from 0 to 1"
    if right is None:
        return
    if right.dtype != torch.bool or tuple(right.shape) != (found.n,):
        yield f"right[{name!r}] is {right.dtype} {tuple(right.shape)}: booleans (n,)"
    mean = float(right.double().mean())
    yield not math.isclose(mean, value, abs_tol=TOLERANCE) and (
        f"right[{name!r}] has the mean {mean:g}, the metric is {value:g}: only a metric that is the mean of "
        "right and wrong has this evidence"
    )


def concludes(case: TaskCase) -> Faults:
    """`watch` returns the declared columns, `conclude` the declared facts and profiles, on synthetic rows.

    As in a run, test splits are sealed during `watch`.
    """
    task = case.task
    if not (task.columns or task.facts or task.profiles):
        return "no columns, facts or profiles are declared"
    data = ObservedData(case.data)
    problem = case.problem(data=data, sealed=task.tests)
    model, batch = case.model(problem), case.few(problem.batch(0))
    rows: list[dict[str, Any]] = []
    for epoch in range(1, EPOCHS + 1):
        row = _row(case, epoch)
        with unchanged("watch", problem, model, batch):
            rows.append({**row, **watched(problem, model, row)})
    read = sorted(data.read & set(task.tests))
    yield read and f"watch reads the test split {read[0]!r}: it is called while the run trains"
    problem.setting.splits.unseal()
    model.eval()
    with unchanged("conclude", problem, model, batch):
        found = concluded(problem, model, rows)
    for metric in task.columns:
        for row in rows:
            if row[metric.name] is not None:
                check_value(task.name, f"the column {metric.name}", metric, row[metric.name])
    columns = [f"column {metric.name}" for metric in task.columns]
    profiles = [f"profile {name} of {len(curve.x)} points" for name, curve in found.profiles.items()]
    return listed([*columns, *(f"fact {name}" for name in found.facts), *profiles])


def _row(case: TaskCase, epoch: int) -> Mapping[str, Any]:
    """Return a synthetic row of an epoch with the columns that the engine writes in that epoch."""
    task, value = case.task, 1.0 / epoch
    row: dict[str, Any] = {"epoch": epoch, "step": epoch, "lr": 0.1, "train_loss": value}
    row |= {f"train_{metric.name}": value for metric in task.metrics}
    row["sample_gradients"] = epoch
    if task.validation and (epoch % task.evaluate_every == 0 or epoch == EPOCHS):
        row |= {f"{task.validation}_{metric.name}": value for metric in task.metrics}
    if task.measure_every and (epoch % task.measure_every == 0 or epoch == EPOCHS):
        row |= {**dict.fromkeys(task.curve_measures, 1.0), "sharpness_train_loss": value}
    return row
