"""Evaluation of a split, and BatchNorm re-estimation (protocol rule 18)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Real

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from suite.batch import Batch
from suite.errors import SteppeError
from suite.metric import Metric
from suite.problem import Evaluation, Problem


@torch.no_grad()
def evaluate(problem: Problem, model: nn.Module, split: str) -> Evaluation:
    """Evaluate a split in eval mode; afterwards the model is in its previous mode.

    Raises SteppeError if a declared metric is missing or has a value that is invalid on its scale.
    """
    with in_eval_mode(model):
        found = problem.evaluate(model, split)
    task = problem.task
    if isinstance(found.n, bool) or not isinstance(found.n, int) or found.n < 1:
        raise SteppeError(
            f"task {task.name}: its evaluation of split {split!r} counts {found.n!r} examples; valid: a "
            "whole number from 1 on (int(...))"
        )
    for metric in task.metrics:
        if metric.name not in found.metrics:
            raise SteppeError(
                f"task {task.name}: its evaluation of split {split!r} lacks the metric {metric.name!r} that "
                f"it declares; it gives: {', '.join(found.metrics)}"
            )
        check_value(task.name, f"{metric.name} on split {split!r}", metric, found.metrics[metric.name])
    return found


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode for the block; afterwards each of its modules is in its previous mode."""
    training = model.training
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(training)  # a model's own `train` may do more than set the flags
        for module, mode in modes:
            module.training = mode


def check_number(task: str, what: str, value: object) -> None:
    """Raise SteppeError if a value from the task is not a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SteppeError(f"task {task}: {what} is a {type(value).__name__}; valid: a number (float(...))")


def check_value(task: str, what: str, metric: Metric, value: float) -> None:
    """Raise SteppeError if a value from the task is not a number, or is negative on a log scale."""
    check_number(task, what, value)
    if metric.scale == "log" and not math.isnan(value) and value < 0:
        raise SteppeError(f"task {task}: {what} is {value:g}, but its scale is log; valid: at least 0")


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers that have running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@torch.no_grad()
def reestimate_batchnorm(
    model: nn.Module, batches: Iterable[Batch], forward: Callable[[nn.Module, Batch], object]
) -> int:
    """Replace BatchNorm's running statistics by those of one pass at the present weights.

    Mean and (unbiased) variance are averaged over the batches with equal weight. They replace the exponential
    average of training, which mixes clean, perturbed and part-of-batch statistics differently for every
    method. Other layers are in eval mode during the pass; `forward(model, batch)` runs it in the desired
    precision. Returns the number of examples passed forward, 0 for a model without BatchNorm.
    """
    layers = batchnorms(model)
    if not layers:
        return 0
    n_examples = 0
    with _collecting(model, layers):
        for batch in batches:
            forward(model, batch)
            n_examples += len(batch)
    return n_examples


@contextmanager
def _collecting(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    training = model.training
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.track_running_stats = True  # an optimizer's last pass may have switched it off
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(training)
