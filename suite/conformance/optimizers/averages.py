"""The promise of an optimizer about evaluation weights: the trained weights, or those that it returns.

A method that averages weights, or trains at a shifted point, returns its evaluation weights by
`evaluation_weights()`. Without that method a run evaluates the wrong weights and raises no error.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from suite.conformance.optimizers.state_dict import left_out, next_to_weights, tensors_by_name
from suite.conformance.optimizers.trial import OptimizerCase, Snapshot, Trial
from suite.conformance.promise import Broken, Faults, difference, in_words

STEPS = 12
"""Enough for averages that start late, and for copies that are renewed every fifth or tenth step."""

LR_FACTOR = 0.01
"""Steps are small, so that averages of the weights stay close to them, unlike other states."""

LIKE = 0.9
"""Minimum cosine similarity between weights and a state that counts as an average of weights.

Averages reach 0.99 with these steps. Gradients, their means and their squares reach at most 0.15 for the
built-in entries, and would reach 0.75 if they equalled the initial ones of BatchNorm alone."""


def evaluates(case: OptimizerCase) -> Faults:
    """The entry defines its evaluation weights, and a checkpoint contains them."""
    if not hasattr(case.trial().optimizer, "evaluation_weights"):
        averages = _averages(_trial(case))
        yield averages and (
            f"state_dict keeps weights other than the trained ones ({averages}), and nobody evaluates them: "
            "define evaluation_weights(), which returns a tensor for each parameter in order, or None if "
            "the trained weights are meant"
        )
        return "evaluates the trained weights"
    queried, control = _trial(case), _trial(case)
    last, differ = None, False
    for step in range(STEPS):
        last, again = _evaluated(queried.run(1)), _evaluated(queried)
        gap = _gap(last, again)
        yield gap and f"two calls of evaluation_weights after step {step} return different weights: {gap}"
        gap = control.run(1).gap(queried)
        yield gap and (
            f"a call of evaluation_weights after step {step} changes the training: {gap}; return other "
            "tensors, and leave the parameters, from which training goes on, as they are"
        )
        differ |= last is not None and bool(difference(last, queried.weights()))
    if last is None:
        return "evaluates the trained weights, as evaluation_weights says"
    yield from _faults_once_continued(_trial(case).run(STEPS // 2))
    if not differ:
        return f"evaluation_weights never differ from the trained ones in {STEPS} steps"
    return "evaluates weights other than the trained ones, which a checkpoint holds"


def _trial(case: OptimizerCase) -> Trial:
    # Weight decay would add the weights to their gradients.
    return case.trial(case.hyper(weight_decay=0.0), total_steps=STEPS, lr_factor=LR_FACTOR)


def _faults_once_continued(whole: Trial) -> Iterator[object]:
    """Yield a fault unless a run resumed from its state_dict evaluates the same weights."""
    resumed, half = whole.continued(copy.deepcopy(whole.optimizer.state_dict())), whole.done
    lacks = left_out(whole, resumed)
    for step in range(half, STEPS + 1):
        one = _evaluated(whole)
        try:
            gap = _gap(one, _evaluated(resumed))
        except Exception as error:  # noqa: BLE001 - the entry may access a lost state
            gap = in_words(error)
        yield gap and (
            f"its evaluation weights are lost: continued from state_dict at step {half}, those before "
            f"step {step} differ: {'; '.join(filter(None, (gap, lacks)))}"
        )
        if step < STEPS:
            whole.run(1)
            resumed.run(1)


def _evaluated(trial: Trial) -> Snapshot | None:
    """Copy the result of `evaluation_weights` by parameter name; raise `Broken` if its form is wrong."""
    given: Any = trial.optimizer.evaluation_weights()
    if given is None:
        return None
    if not isinstance(given, Sequence) or not all(isinstance(one, Tensor) for one in given):
        raise Broken(f"evaluation_weights gives a {type(given).__name__}: return a list of tensors, or None")
    weights = trial.weights()
    if [one.shape for one in given] != [w.shape for w in weights.values()]:
        raise Broken(
            f"evaluation_weights gives {len(given)} tensors, which are not those of the {len(weights)} "
            "parameters: return one of the same shape for each, in the order in which build gets them"
        )
    copies = {name: tensor.detach().clone() for name, tensor in zip(weights, given, strict=True)}
    for name, tensor in copies.items():
        if not bool(torch.isfinite(tensor).all()):
            raise Broken(f"evaluation_weights are not finite in {name} after step {trial.done - 1}")
    return copies


def _gap(one: Snapshot | None, other: Snapshot | None) -> str:
    """Describe the difference of two sets of evaluation weights; empty if they are bit-identical."""
    if one is None or other is None:
        return "" if one is other else "once there are none"
    return difference(one, other)


def _averages(trial: Trial) -> str:
    """Return the names of states that follow the trained weights and are not copies of them.

    A copy equals, after every step, the current weights (a master copy), those before the step (a backup) or
    the initial ones (a reference for a distance).
    """
    start = list(trial.weights().values())
    copies: dict[str, set[int]] = {}
    place = {id(p): number for number, p in enumerate(trial.parameters)}
    order = [place[id(p)] for group in trial.optimizer.param_groups for p in group["params"]]
    for _ in range(STEPS):
        before = list(trial.weights().values())
        references = list(trial.run(1).weights().values()), before, start
        followers: list[str] = []
        for name, members in tensors_by_name(trial.optimizer.state_dict(), len(place)).items():
            pairs = [list(next_to_weights(members, weights, order)) for weights in references]
            if not pairs[0]:
                continue
            equal = {i for i, some in enumerate(pairs) if any(torch.equal(a.to(b.dtype), b) for a, b in some)}
            copies[name] = copies.get(name, equal) & equal
            if max(float(cosine_similarity(a.double(), b.double(), dim=0)) for a, b in pairs[0]) >= LIKE:
                followers.append(name)
    return ", ".join(name for name in followers if not copies[name])
