"""Promises of a task about its model: initial weights, outputs, a step on the smallest mini-batch."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.conformance.promise import Broken, Faults, difference
from suite.conformance.tasks.case import TaskCase, unchanged
from suite.parameters import Parameters
from suite.problem import ClassificationLoss, ModelAt, Problem, mapped
from suite.problems.image_task import ImageTask
from suite.seeds import Streams

ROW_TOLERANCE = 1e-3
"""Tolerance of row sums around 1, above the rounding of probabilities even in bf16; logits miss it."""

SMALL = 16
"""Maximum size of a last mini-batch that is tried; larger ones do not fail because of their size."""


def initialises(case: TaskCase) -> Faults:
    """Initial weights depend only on the run's stream `init`, which seeds torch's global generator."""
    problem = case.problem()
    states, untouched = [], True
    for seed, other in ((0, 1), (0, 2), (1, 1)):
        random.seed(other)
        np.random.seed(other)
        Streams(seed).seed_global("init")
        before = torch.get_rng_state()
        states.append(problem.model().state_dict())
        untouched &= torch.equal(before, torch.get_rng_state())
    gap = difference(states[0], states[1])
    yield gap and f"two models of one seed differ: {gap}; a draw from another generator than torch's"
    n = sum(p.numel() for p in problem.model().parameters())
    if difference(states[0], states[2]):
        return f"{n:,} parameters, fixed by the seed"
    yield not untouched and "models of two seeds are equal: the model seeds its own initialisation"
    return f"{n:,} parameters, the same for every seed"


def calls(case: TaskCase) -> Faults:
    """`forward` only calls the model, since measures call it at other weights."""
    problem, model, batch = case.ready()
    values = {name: p.detach() for name, p in model.named_parameters()}
    with torch.no_grad():
        with unchanged("forward", problem, model, batch):
            plain = _tensors(problem.forward(model, batch))
        try:
            at_weights = _tensors(problem.forward(ModelAt(model, values), batch))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - the same call worked at the model's own weights
            raise Broken(
                f"forward uses more of the model than a call ({error}): move that into the model's own "
                "forward, as measures and optimizers evaluate it at other weights"
            ) from None
    if len(plain) != len(at_weights) or not all(map(torch.equal, plain, at_weights)):
        yield "forward gives other outputs for the model at its own weights, called as a function"
    return f"outputs {', '.join(str(tuple(one.shape)) for one in plain)} for {len(batch)} examples"


def _tensors(outputs: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(one: Tensor) -> Tensor:
        found.append(one)
        return one

    mapped(note, outputs)
    return found


def head(case: TaskCase) -> Faults:
    """The last layer, which some optimizers treat separately, is part of the model."""
    problem = case.problem()
    model = case.model(problem)
    layers = list(problem.head(model))
    if not {id(layer) for layer in layers} <= {id(module) for module in model.modules()}:
        yield "head returns a module that is not one of the model's: return some of model.modules()"
    own = [one.name for one in Parameters.of(model, layers) if one.head]
    return ", ".join(own) or "none: no parameter counts as the head's"


def logits(case: TaskCase) -> Faults:
    """Inputs of cross-entropy are logits, as a softmax in the model would be applied twice."""
    problem = case.problem()
    if not isinstance(problem, ClassificationLoss):
        return "not judged: the loss is the task's own"
    model, batch = case.model(problem).eval(), case.few(problem.batch(0))
    with torch.no_grad():
        outputs: object = problem.forward(model, batch)
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(batch):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise Broken(f"the model gives {shape} for {len(batch)} examples: logits are (n, classes)")
    n, targets = outputs.shape[1], batch.targets
    if isinstance(case.judged, ImageTask) and n != case.judged.data[0].n_classes:
        yield f"{n} logits for {case.judged.data[0].n_classes} classes"
    whole = targets.dtype == torch.int64 and bool(((targets >= 0) & (targets < n)).all())
    yield not whole and (
        f"targets are {targets.dtype} from {float(targets.min()):g} to {float(targets.max()):g}: whole "
        f"numbers (int64) from 0 to {n - 1}, one a logit"
    )
    sums = outputs.double().sum(1)
    normed = n > 1 and bool((outputs >= 0).all() & ((sums - 1).abs() < ROW_TOLERANCE).all())
    yield normed and (
        "outputs are probabilities (no row has a negative number, each sums to 1), and the loss takes "
        "their softmax once more: leave the softmax at the end of the model out"
    )
    return f"logits (n, {n})"


def starts(case: TaskCase) -> Faults:
    """Loss and gradient are finite at the initial weights in training mode."""
    problem, model, batch = case.ready()
    loss = _step(problem, model, batch)
    for name, p in model.named_parameters():
        if p.grad is not None and not bool(torch.isfinite(p.grad).all()):
            yield f"the gradient of {name} is not finite at the initial weights"
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if not without:
        return f"loss {loss:.4g}, and a gradient for each parameter"
    return f"loss {loss:.4g}; no gradient for {', '.join(without[:4])}{' ...' * (len(without) > 4)}"


def last_batch(case: TaskCase) -> Faults:
    """A training step works on the last mini-batch of an epoch, which may hold one example."""
    problem = case.problem()
    # A task on fake images uses the number of examples of the data set that a run would use.
    served = case.data.name if case.judged is case.task else case.data_name or case.task.data[0].name
    n = case.task.training_examples(served) or problem.n_train
    size = n % problem.batch_size
    if not size or not case.task.separable:
        return "no smaller mini-batch at the end of an epoch"
    if size > SMALL:
        return f"{size} examples in the last mini-batch of an epoch"
    model, examples = case.model(problem), f"{size} example{'s' * (size != 1)}"
    try:
        _step(problem, model, problem.batch(0).part(0, size))
    except ValueError as error:
        yield (
            f"the last mini-batch of an epoch has {examples} ({n} in batches of {problem.batch_size}), on "
            f"which a training step fails: {error}; choose another batch_size, or leave an example out"
        )
    return f"a training step runs on the {examples} at the end of an epoch"


def _step(problem: Problem, model: nn.Module, batch: Batch) -> float:
    """Run forward and backward in training mode, like the engine; raise `Broken` on an invalid loss."""
    loss = problem.loss(problem.predict(model.train(), batch), batch)
    if loss.dim():
        raise Broken(
            f"the loss has shape {tuple(loss.shape)}: return the mean over the batch, a 0-dim tensor"
        )
    found = float(loss.detach())
    if not math.isfinite(found):
        raise Broken(f"the loss is {found} at the initial weights on {len(batch)} examples: not finite")
    loss.backward()  # type: ignore[no-untyped-call]
    return found
