"""Promises of a task about its numbers: scores, metrics of splits, and what it says of a whole run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from suite.conformance.check import Broken
from suite.conformance.tasks.case import TaskCase
from suite.conformance.tasks.data import noted
from suite.conformance.tasks.unchanged import unchanged
from suite.engine.evaluate import check_number, check_value, evaluate
from suite.engine.record import concluded, watched
from suite.metric import PERCENT, Metric
from suite.problem import Evaluation, check_score_names

TOLERANCE = 1e-5
"""Of means over some examples: float32 sums in another order, or of another width."""

EPOCHS = 4
"""Of the run that the task is asked about, with made-up rows."""


def scores(case: TaskCase) -> str:
    """`scores` gives what `score_names` says, one number an example, and evaluation has their means."""
    problem = case.few_of_each(case.problem())
    check_score_names(case.task.name, problem.score_names)
    model = case.model(problem).eval()
    split = case.task.description.scored
    sums, units = dict.fromkeys(problem.score_names, 0.0), 0
    for batch in problem.batches(split):
        with torch.no_grad(), unchanged("scores", problem, model, batch):
            given = problem.scores(problem.predict(model, batch), batch)
        if set(given) != set(problem.score_names):
            raise Broken(
                f"scores gives {_list(given)}, score_names says {_list(problem.score_names)}: name them all "
                "there"
            )
        for name, value in given.items():
            if not isinstance(value, Tensor) or tuple(value.shape) != (len(batch),):
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise Broken(
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
        if not math.isclose(metrics[name], sums[name] / units, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise Broken(
                f"evaluation of split {split!r} gives {name} = {metrics[name]:.6g}, its scores have the mean "
                f"{sums[name] / units:.6g}: a metric has another name than a score that it is not the mean of"
            )
    return f"{_list(sums)}; evaluation has {'the mean of ' + _list(shared) if shared else 'other metrics'}"


def evaluates(case: TaskCase) -> str:
    """Every declared metric is there for every split: a number of its kind, with evidence that fits it."""
    task = case.task
    problem = case.few_of_each(case.problem())
    model = case.model(problem)
    for split in task.description.evaluated:
        with unchanged("evaluate", problem, model, case.few(problem)):
            found = evaluate(problem, model, split)  # raises SteppeError on a metric that is missing
        examples = sum(len(batch) for batch in problem.batches(split))
        if found.n != examples:
            raise Broken(
                f"evaluation of split {split!r} counts {found.n} examples of {examples}: n is of examples"
            )
        for metric in task.metrics:
            _check(metric, found, split)
    primary = task.metrics[0]
    if not math.isfinite(found.metrics[primary.name]):
        raise Broken(
            f"{primary.name} on split {split!r} is {found.metrics[primary.name]} at the initial weights"
        )
    of_training = problem.metrics({"loss": 1.0, **dict.fromkeys(problem.score_names, 0.5)})
    for metric in task.metrics:
        if metric.name in of_training:
            check_number(task.name, f"{metric.name} of training", of_training[metric.name])
    return f"{_list(metric.name for metric in task.metrics)} on {_list(task.description.evaluated)}"


def _check(metric: Metric, found: Evaluation, split: str) -> None:
    value = float(found.metrics[metric.name])
    if metric.unit == PERCENT and not 0 <= value <= 1:
        raise Broken(
            f"{metric.name} on split {split!r} is {value:g} with the unit %: give a fraction from 0 to 1"
        )
    right = found.right.get(metric.name)
    if right is None:
        return
    if right.dtype != torch.bool or tuple(right.shape) != (found.n,):
        raise Broken(f"right[{metric.name!r}] is {right.dtype} {tuple(right.shape)}: booleans (n,)")
    if not math.isclose(float(right.double().mean()), value, abs_tol=TOLERANCE):
        raise Broken(
            f"right[{metric.name!r}] has the mean {float(right.double().mean()):g}, the metric is {value:g}: "
            "only a metric that is the mean of right and wrong has this evidence"
        )


def concludes(case: TaskCase) -> str:
    """`watch` gives the declared columns, `conclude` the declared facts and profiles, on made-up rows.

    As in a run, the test splits are sealed while it watches.
    """
    task = case.task
    if not (task.columns or task.facts or task.profiles):
        return "no columns, facts or profiles are declared"
    touched: set[str] = set()
    problem = noted(case, touched)
    model, batch = case.model(problem), case.few(problem)
    rows: list[dict[str, Any]] = []
    for epoch in range(1, EPOCHS + 1):
        row = _row(case, epoch)
        with unchanged("watch", problem, model, batch):
            rows.append({**row, **watched(problem, model, row)})
    read = sorted(touched & set(task.tests))
    if read:
        raise Broken(f"watch reads the test split {read[0]!r}: it is called while the run trains")
    problem.setting.splits.unseal()
    model.eval()
    with unchanged("conclude", problem, model, batch):
        found = concluded(problem, model, rows)
    for metric in task.columns:
        for row in rows:
            if row[metric.name] is not None:
                check_value(task.name, f"the column {metric.name}", metric, row[metric.name])
    given = chain(
        (f"column {metric.name}" for metric in task.columns),
        (f"fact {name}" for name in found.facts),
        (f"profile {name} of {len(curve.x)} points" for name, curve in found.profiles.items()),
    )
    return _list(given)


def _row(case: TaskCase, epoch: int) -> Mapping[str, Any]:
    """Make up the row of an epoch with the columns that the engine writes, each when it is due."""
    task = case.task
    row: dict[str, Any] = {"epoch": epoch, "step": epoch, "lr": 0.1, "train_loss": 1.0 / epoch}
    row |= {f"train_{metric.name}": 1.0 / epoch for metric in task.metrics}
    row["sample_gradients"] = epoch
    if task.validation and (epoch % task.evaluate_every == 0 or epoch == EPOCHS):
        row |= {f"{task.validation}_{metric.name}": 1.0 / epoch for metric in task.metrics}
    if task.measure_every and (epoch % task.measure_every == 0 or epoch == EPOCHS):
        row |= dict.fromkeys(task.curve_measures, 1.0)
        row["sharpness_train_loss"] = 1.0 / epoch
    return row


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
