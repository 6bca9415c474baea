"""The promise of an optimizer about what is evaluated: the trained weights, or others that it names itself.

A method that averages weights, or trains at a point away from them, gives the ones it means by a method
`evaluation_weights()`. Forgotten, nothing fails: a run quietly evaluates other weights than the paper's.
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
"""Enough for averages that begin late, and for a copy that is renewed every fifth or tenth step."""

LR_FACTOR = 0.01
"""The steps are small, so that whatever follows the weights stays close to them, and nothing else does."""

LIKE = 0.9
"""Least cosine with the weights at which a state looks like weights, whatever its scale.

Averages reach 0.99 at these steps. Gradients, their means and their squares have no direction in common with
the weights: 0.15 at most for the built-in entries, and 0.75 if they stood at the ones of BatchNorm alone."""


def evaluates(case: OptimizerCase) -> Faults:
    """The weights that are evaluated are those that the method means, and a checkpoint holds them."""
    if not hasattr(case.trial().optimizer, "evaluation_weights"):
        averages = _averages(_trial(case))
        yield averages and (
            f"state_dict keeps weights other than the trained ones ({averages}), and nobody evaluates them: "
            "define evaluation_weights(), which returns a tensor for each parameter in order, or None if "
            "the trained weights are meant"
        )
        return "evaluates the trained weights"
    asked, silent = _trial(case), _trial(case)
    last, differ = None, False
    for step in range(STEPS):
        last, again = _evaluated(asked.run(1)), _evaluated(asked)
        gap = _gap(last, again)
        yield gap and f"evaluation_weights gives others when it is asked twice after step {step}: {gap}"
        gap = silent.run(1).gap(asked)
        yield gap and (
            f"to ask for evaluation_weights after step {step} changes the training: {gap}; return other "
            "tensors, and leave the parameters, from which training goes on, as they are"
        )
        differ |= last is not None and bool(difference(last, asked.weights()))
    if last is None:
        return "evaluates the trained weights, as evaluation_weights says"
    yield from _faults_once_continued(_trial(case).run(STEPS // 2))
    if not differ:
        return f"evaluation_weights never differ from the trained ones in {STEPS} steps"
    return "evaluates weights other than the trained ones, which a checkpoint holds"


def _trial(case: OptimizerCase) -> Trial:
    # Without weight decay, which adds the weights to their gradients.
    return case.trial(case.hyper(weight_decay=0.0), total_steps=STEPS, lr_factor=LR_FACTOR)


def _faults_once_continued(whole: Trial) -> Iterator[object]:
    """Yield a fault unless a run that is continued from its state_dict evaluates the same weights."""
    resumed, half = whole.continued(copy.deepcopy(whole.optimizer.state_dict())), whole.done
    lacks = left_out(whole, resumed)
    for step in range(half, STEPS + 1):
        one = _evaluated(whole)
        try:
            gap = _gap(one, _evaluated(resumed))
        except Exception as error:  # noqa: BLE001 - what is lost may be looked up
            gap = in_words(error)
        yield gap and (
            f"its evaluation weights are lost: continued from state_dict at step {half}, those before "
            f"step {step} differ: {'; '.join(filter(None, (gap, lacks)))}"
        )
        if step < STEPS:
            whole.run(1)
            resumed.run(1)


def _evaluated(trial: Trial) -> Snapshot | None:
    """Copy what `evaluation_weights` gives, by the parameters' names; raises `Broken` on another form."""
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
    found = {name: one.detach().clone() for name, one in zip(weights, given, strict=True)}
    endless = [name for name, one in found.items() if not bool(torch.isfinite(one).all())]
    if endless:
        raise Broken(f"evaluation_weights are not finite in {endless[0]} after step {trial.done - 1}")
    return found


def _gap(one: Snapshot | None, other: Snapshot | None) -> str:
    """Where two sets of evaluation weights differ, in words; empty if they are equal bit for bit."""
    if one is None or other is None:
        return "" if one is other else "once there are none"
    return difference(one, other)


def _averages(trial: Trial) -> str:
    """Name the states that follow the trained weights without being copies of them; empty if none does.

    A copy is of the present weights (a master copy), of those before the step (to restore from) or of the
    initial ones (to measure a distance from), in each step that there is a state of this name.
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
