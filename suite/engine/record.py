"""The record of a finished run: final evaluation, sharpness, cost and provenance."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from suite import sharpness
from suite.batch import Batch
from suite.engine.context import Context
from suite.engine.evaluate import (
    batchnorms,
    check_value,
    evaluate,
    in_eval_mode,
    reestimate_batchnorm,
)
from suite.errors import SteppeError
from suite.metric import Metric
from suite.objective import Meter
from suite.problem import EVAL_BATCH, Conclusion, Evaluation, Problem
from suite.records.provenance import record_provenance
from suite.records.schema import (
    Cost,
    CurveResult,
    Estimate,
    Failure,
    Record,
    Sharpness,
    Sources,
    SplitResult,
    pack_right,
)
from suite.spec import cost_of
from suite.store.lines import finite

BN_EXAMPLES = 10_000
"""Approximate number of training examples in a BatchNorm re-estimation; a smaller set is passed once."""


@dataclass(frozen=True)
class Trained:
    """The state at the end of training, and the cost up to there."""

    model: nn.Module
    """The model with the weights that are evaluated and measured."""
    meter: Meter
    step: int
    seconds: Mapping[str, float]
    """`train_s`, `evaluate_s` and `measure_s`, over all attempts."""
    diverged: bool
    cosines: Mapping[str, float]
    """Cosine of realised and intended perturbation in low precision, at the first and the last step."""
    attempts: int
    fingerprints: Sequence[str]
    """Fingerprints of the attempts whose steps are in the weights."""
    measured: Mapping[str, Estimate]
    """Measures already taken at the final weights."""
    rows: Sequence[Mapping[str, Any]]
    """The rows of all epochs."""


def build_record(context: Context, trained: Trained) -> Record:
    """Evaluate, measure and describe a finished run; its model keeps the re-estimated statistics."""
    seconds = dict(trained.seconds)
    failure = None
    results: dict[str, SplitResult] = {}
    conclusion, measured = Conclusion(), None
    if trained.diverged:
        reason = "the training or validation loss of the epoch that ends here is not finite"
        failure = Failure("diverged", trained.step, reason)
    else:
        clock = time.perf_counter
        started = clock()
        results = _results(context, trained.model, trained.meter)
        failure = _failure(context, results, trained.step)
        evaluated = clock()
        if failure is None and context.task.measures:
            measured = _sharpness(context, trained.model, trained.measured)
        concluding = clock()
        if failure is None:  # last: the task's own code must not affect an evaluation or a measure
            conclusion = concluded(context.problem, trained.model.eval(), trained.rows)
        seconds["evaluate_s"] += evaluated - started + clock() - concluding
        seconds["measure_s"] += concluding - evaluated
    spec, meter = context.spec, trained.meter
    return Record(
        protocol=spec.protocol,
        engine=spec.engine,
        run_id=spec.run_id,
        spec=spec,
        task=context.task.description,
        status="completed" if failure is None else "failed",
        failure=failure,
        results=results if failure is None else {},
        facts={name: _number(value) for name, value in conclusion.facts.items()},
        profiles={
            name: CurveResult(tuple(map(float, curve.x)), tuple(map(_number, curve.y)))
            for name, curve in conclusion.profiles.items()
        },
        sharpness=measured,
        cost=Cost(
            sample_gradients=float(meter.sample_gradients),
            gradients=meter.gradients,
            losses=meter.losses,
            function=meter.function,
            forward_only=meter.forward_only,
            steps=trained.step,
            n_train=context.problem.n_train,
            declared=cost_of(context.entry, spec.optimizer.params),
            **{key: round(value, 3) for key, value in seconds.items()},
        ),
        perturbation_cosine=dict(trained.cosines),
        sources=Sources(**context.source_hashes),
        data=dict(context.problem.identity),
        digests=dict(context.problem.setting.splits.digests),
        provenance=record_provenance(spec, trained.attempts, trained.fingerprints),
    )


def _number(value: float) -> float | None:
    """Convert a number of a task, also one of numpy, to a plain float; None if it is not finite."""
    found: float | None = finite(float(value))
    return found


def _results(context: Context, model: nn.Module, meter: Meter) -> dict[str, SplitResult]:
    """Evaluate every split with re-estimated statistics; only here are the test splits read."""
    task, problem = context.task, context.problem
    problem.setting.splits.unseal()

    def on(split: str) -> Evaluation:
        found = evaluate(problem, model, split)
        meter.forward_only += found.n
        return found

    def numbers(found: Evaluation) -> dict[str, float | None]:
        return {metric.name: _number(found.metrics[metric.name]) for metric in task.metrics}

    as_trained = {split: on(split) for split in task.tests} if batchnorms(model) else {}
    meter.forward_only += reestimate_batchnorm(model, statistics_batches(context), problem.predict)
    results = {}
    for split in task.description.evaluated:
        found = on(split)
        evidence = {
            name: pack_right(np.packbits(right.numpy()).tobytes())
            for name, right in found.right.items()
            if split in task.tests and name in numbers(found)
        }
        before = numbers(as_trained[split]) if split in as_trained else {}
        results[split] = SplitResult(found.n, numbers(found), before, evidence)
    return results


def _failure(context: Context, results: Mapping[str, SplitResult], step: int) -> Failure | None:
    """Return a failure if the primary metric is not finite, even if the losses are."""
    description = context.task.description
    if results[description.scored].metrics[description.primary.name] is not None:
        return None
    reason = f"{description.primary.name} on split {description.scored!r} is not finite"
    return Failure("metric", step, reason)


def concluded(problem: Problem, model: nn.Module, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
    """Return the facts and profiles of a whole run; SteppeError unless they are those declared."""
    task = problem.task
    found = problem.conclude(model, rows)
    for what, declared, given in (
        ("facts", {metric.name for metric in task.facts}, set(found.facts)),
        ("profiles", {profile.name for profile in task.profiles}, set(found.profiles)),
    ):
        if declared != given:
            raise SteppeError(
                f"task {task.name}: conclude gives the {what} {', '.join(sorted(given)) or 'none'}; declared "
                f"are {', '.join(sorted(declared)) or 'none'}"
            )
    for metric in task.facts:
        check_value(task.name, f"the fact {metric.name}", metric, found.facts[metric.name])
    for profile in task.profiles:
        curve = found.profiles[profile.name]
        if len(curve.x) != len(curve.y) or not all(math.isfinite(x) for x in curve.x):
            raise SteppeError(
                f"task {task.name}: profile {profile.name} has {len(curve.x)} places for {len(curve.y)} "
                "values; valid: as many of either, the places finite"
            )
    return found


def statistics_batches(context: Context, step: int | None = None) -> Iterator[Batch]:
    """Yield the training batches for BatchNorm re-estimation (rule 18) after `step` steps; None: after all.

    They are the first batches of the next epoch, with augmentation: for one seed the same for every
    optimizer. Without augmentation the statistics would be those of images that the weights were not trained
    on; with padded crops that cost 2.2 points of test accuracy on cifar10-resnet8-5k. The smaller batch at
    the end of an epoch is left out, because batches have equal weight.
    """
    problem = context.problem
    done = context.total_steps if step is None else step
    first = -(-done // problem.steps_per_epoch) * problem.steps_per_epoch
    whole = max(1, problem.n_train // problem.batch_size)
    for step in range(min(whole, max(1, BN_EXAMPLES // problem.batch_size))):
        yield problem.batch(first + step)


def measure_point(context: Context, model: nn.Module, n_examples: int | None = None) -> sharpness.Point:
    """Return the point at which all measures are taken (rule 26): fixed seeded subset, eval mode, fp32."""
    problem = context.problem
    return sharpness.Point(
        model=model.eval(),
        batch=problem.measured(n_examples or context.task.measure_examples),
        problem=problem,
        seed=context.spec.seed,
        batch_size=EVAL_BATCH if context.task.separable else problem.batch_size,
    )


def _sharpness(context: Context, model: nn.Module, known: Mapping[str, Estimate]) -> Sharpness:
    with _buffers_kept(model):
        if context.autocast is not None:  # measures compute in fp32, so the statistics must be of fp32 too
            reestimate_batchnorm(model, statistics_batches(context), context.problem.forward)
        point = measure_point(context, model)
        base = sharpness.subset_loss(point)
        missing = [name for name in context.task.measures if name not in known]
        measured = {**known, **sharpness.measure(point, missing)}
    return Sharpness(
        n=base.n,
        metrics={name: _number(value) for name, value in base.metrics.items()},
        measures={name: measured[name] for name in context.task.measures},
    )


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restore a model's buffers after the block, so that `conclude` sees the statistics as evaluated."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    yield
    with torch.no_grad():
        for buffer, before in kept:
            buffer.copy_(before)


def measure_along(
    context: Context, model: nn.Module, step: int, names: Sequence[str]
) -> tuple[dict[str, Estimate], sharpness.SubsetLoss]:
    """Measure during training, after `step` steps, on the same examples as the record.

    A copy of the model gets the re-estimated statistics; the model in training does not change.
    """
    copied = copy.deepcopy(model)
    reestimate_batchnorm(copied, statistics_batches(context, step), context.problem.forward)
    point = measure_point(context, copied)
    return sharpness.measure(point, names), sharpness.subset_loss(point)


def curve_columns(measured: Mapping[str, Estimate], loss: sharpness.SubsetLoss) -> dict[str, float | None]:
    """Return measures as columns of a row of metrics, with the loss on the same examples (rule 27)."""
    row: dict[str, float | None] = {}
    for name, estimate in measured.items():
        row[name] = estimate.value
        for error in ("se_probes", "se_examples"):
            if (found := getattr(estimate, error)) is not None:
                row[f"{name}_{error}"] = found
    return row | {"sharpness_train_loss": _number(loss.loss)}


def watched(problem: Problem, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the task's columns for the row of an epoch; SteppeError unless they are those declared.

    The task gets the model in eval mode and a copy of the row.
    """
    declared: tuple[Metric, ...] = problem.task.columns
    if not declared:
        return {}
    with in_eval_mode(model):
        found = problem.watch(model, dict(row))
    if set(found) != {metric.name for metric in declared}:
        raise SteppeError(
            f"task {problem.task.name}: watch gives the columns {', '.join(sorted(found)) or 'none'}; "
            f"declared are {', '.join(metric.name for metric in declared)}"
        )
    return {metric.name: _number(found[metric.name]) for metric in declared}
