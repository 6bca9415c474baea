"""Promises of a task about its model: initial weights, outputs, a step on the smallest mini-batch."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.conformance.check import Broken
from suite.conformance.tasks.case import TaskCase
from suite.conformance.tasks.unchanged import unchanged
from suite.conformance.trial import difference
from suite.parameters import Parameters
from suite.problem import ClassificationLoss, ModelAt, Problem, mapped
from suite.problems.image_task import ImageTask
from suite.seeds import Streams

ROW_TOLERANCE = 1e-3
"""Rows of probabilities sum to 1 up to rounding, in bf16 too; rows of logits do not by chance."""

SMALL = 16
"""A last mini-batch of more examples than that is not tried: its size is no reason to fail."""


def initialises(case: TaskCase) -> str:
    """The initial weights are a function of the run's stream `init`, where torch's generator stands."""
    problem = case.problem()
    states, untouched = [], True
    for seed, other in ((0, 1), (0, 2), (1, 1)):
        kept = random.getstate(), np.random.get_state()
        random.seed(other)
        np.random.seed(other)
        try:
            Streams(seed).seed_global("init")
            before = torch.get_rng_state()
            states.append(problem.model().state_dict())
            untouched &= torch.equal(before, torch.get_rng_state())
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
    gap = difference(states[0], states[1])
    if gap:
        raise Broken(f"two models of one seed differ: {gap}; a draw from another generator than torch's")
    n = sum(p.numel() for p in problem.model().parameters())
    if difference(states[0], states[2]):
        return f"{n:,} parameters, fixed by the seed"
    if not untouched:
        raise Broken("models of two seeds are equal: the model seeds its own initialisation")
    return f"{n:,} parameters, the same for every seed"


def calls(case: TaskCase) -> str:
    """`forward` does no more with the model than call it: measures call it at other weights."""
    problem = case.problem()
    model, batch = case.model(problem).eval(), case.few(problem)
    values = {name: p.detach() for name, p in model.named_parameters()}
    with torch.no_grad():
        with unchanged("forward", problem, model, batch):
            plain = _tensors(problem.forward(model, batch))
        try:
            at_weights = _tensors(problem.forward(ModelAt(model, values), batch))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - of whatever kind: at its own weights it worked
            raise Broken(
                f"forward uses more of the model than a call ({error}): move that into the model's own "
                "forward, as measures and optimizers evaluate it at other weights"
            ) from None
    if len(plain) != len(at_weights) or not all(map(torch.equal, plain, at_weights)):
        raise Broken("forward gives other outputs for the model at its own weights, called as a function")
    return f"outputs {', '.join(str(tuple(one.shape)) for one in plain)} for {len(batch)} examples"


def head(case: TaskCase) -> str:
    """The last layer, which some optimizers treat apart, is part of the model."""
    problem = case.problem()
    model = case.model(problem)
    layers = list(problem.head(model))
    known = {id(module): name for name, module in model.named_modules()}
    if any(id(layer) not in known for layer in layers):
        raise Broken("head returns a module that is not one of the model's: return some of model.modules()")
    own = [one.name for one in Parameters.of(model, layers) if one.head]
    return f"{', '.join(own)}" if own else "none: no parameter counts as the head's"


def logits(case: TaskCase) -> str:
    """Outputs that go into cross-entropy are logits: a softmax before it would be taken twice."""
    problem = case.problem()
    if not isinstance(problem, ClassificationLoss):
        return "not judged: the loss is the task's own"
    model, batch = case.model(problem).eval(), case.few(problem)
    with torch.no_grad():
        outputs: object = problem.forward(model, batch)
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(batch):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise Broken(f"the model gives {shape} for {len(batch)} examples: logits are (n, classes)")
    if isinstance(case.judged, ImageTask) and outputs.shape[1] != case.judged.data[0].n_classes:
        raise Broken(f"{outputs.shape[1]} logits for {case.judged.data[0].n_classes} classes")
    targets = batch.targets
    if targets.dtype != torch.int64 or not bool(((targets >= 0) & (targets < outputs.shape[1])).all()):
        raise Broken(
            f"targets are {targets.dtype} from {float(targets.min()):g} to {float(targets.max()):g}: whole "
            f"numbers (int64) from 0 to {outputs.shape[1] - 1}, one a logit"
        )
    sums = outputs.double().sum(1)
    if outputs.shape[1] > 1 and bool((outputs >= 0).all() & ((sums - 1).abs() < ROW_TOLERANCE).all()):
        raise Broken(
            "outputs are probabilities (no row has a negative number, each sums to 1), and the loss takes "
            "their softmax once more: leave the softmax at the end of the model out"
        )
    return f"logits (n, {outputs.shape[1]})"


def starts(case: TaskCase) -> str:
    """Loss and gradient are finite at the initial weights, in training mode."""
    problem = case.problem()
    model = case.model(problem)
    loss = _step(problem, model, case.few(problem))
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    for name, p in model.named_parameters():
        if p.grad is not None and not bool(torch.isfinite(p.grad).all()):
            raise Broken(f"the gradient of {name} is not finite at the initial weights")
    if not without:
        return f"loss {loss:.4g}, and a gradient for each parameter"
    return f"loss {loss:.4g}; no gradient for {', '.join(without[:4])}{' ...' * (len(without) > 4)}"


def last_batch(case: TaskCase) -> str:
    """A training step on the last mini-batch of an epoch runs: it may be of one example."""
    problem = case.problem()
    n = case.task.training_examples(case.data.name) if case.judged is case.task else _declared(case)
    n = problem.n_train if n is None else n
    size = n % problem.batch_size
    if not size or not case.task.separable:
        return "no smaller mini-batch at the end of an epoch"
    if size > SMALL:
        return f"{size} examples in the last mini-batch of an epoch"
    model = case.model(problem)
    try:
        _step(problem, model, problem.batch(0).part(0, size))
    except ValueError as error:
        raise Broken(
            f"the last mini-batch of an epoch has {size} example{'s' * (size != 1)} ({n} in batches of "
            f"{problem.batch_size}), on which a training step fails: {error}; choose another batch_size, or "
            "leave an example out"
        ) from None
    return f"a training step runs on the {size} example{'s' * (size != 1)} at the end of an epoch"


def _declared(case: TaskCase) -> int | None:
    """Return the examples of an epoch on the data set that would serve; images are judged on others."""
    names = [case.data_name] if case.data_name else [data.name for data in case.task.data]
    return case.task.training_examples(names[0])


def _step(problem: Problem, model: nn.Module, batch: Batch) -> float:
    """Take forward and backward in training mode, as the engine does; raises `Broken` on a loss of no use."""
    loss = problem.loss(problem.predict(model.train(), batch), batch)
    if loss.dim():
        raise Broken(
            f"the loss has shape {tuple(loss.shape)}: return the mean over the batch, a 0-dim tensor"
        )
    if not bool(torch.isfinite(loss)):
        found = float(loss.detach())
        raise Broken(f"the loss is {found} at the initial weights on {len(batch)} examples: not finite")
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _tensors(outputs: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(one: Tensor) -> Tensor:
        found.append(one)
        return one

    mapped(note, outputs)
    return found
