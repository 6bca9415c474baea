"""The promise of an optimizer about what is evaluated: the trained weights, or others that it names itself.

A method that averages weights, or trains at a point away from them, gives the ones it means by a method
`evaluation_weights()`. Forgotten, nothing fails: a run quietly evaluates other weights than the paper's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from suite.conformance.case import Case
from suite.conformance.check import Broken, in_words
from suite.conformance.state import left_out
from suite.conformance.trial import Snapshot, Trial, difference
from suite.conformance.weightlike import kept

STEPS = 12
"""Enough for averages that begin late, and for a copy that is renewed every fifth or tenth step."""

LR_FACTOR = 0.01
"""The steps are small, so that whatever follows the weights stays close to them, and nothing else does."""

LIKE = 0.9
"""Least cosine with the weights at which a state looks like weights, whatever its scale.

Averages reach 0.99 at these steps. Gradients, their means and their squares have no direction in common with
the weights: 0.15 at most for the built-in entries, and 0.75 if they stood at the ones of BatchNorm alone."""

COPIES = ("now", "before", "start")
"""Copies of trained weights that are no averages: of the present ones (a master copy), of those before the
step (to restore from), of the initial ones (to measure a distance from)."""


def evaluates(case: Case) -> str:
    """The weights that are evaluated are those that the method means, and a checkpoint holds them."""
    if not hasattr(case.trial().optimizer, "evaluation_weights"):
        kept = _kept(case)
        if kept:
            raise Broken(
                f"state_dict keeps weights other than the trained ones ({kept}), and nobody evaluates them: "
                "define evaluation_weights(), which returns a tensor for each parameter in order, or None if "
                "the trained weights are meant"
            )
        return "evaluates the trained weights"
    last, differ = _asked(case)
    if last is None:
        return "evaluates the trained weights, as evaluation_weights says"
    _survives(case)
    if not differ:
        return f"evaluation_weights never differ from the trained ones in {STEPS} steps"
    return "evaluates weights other than the trained ones, which a checkpoint holds"


def _asked(case: Case) -> tuple[Snapshot | None, bool]:
    """Return the last evaluation weights, and whether any differed from the trained ones.

    Raises `Broken` where it matters to training, or to themselves, that somebody asks for them.
    """
    asked, silent = _trial(case), _trial(case)
    last, differ = None, False
    for step in range(STEPS):
        asked.step()
        silent.step()
        last, again = _evaluated(asked), _evaluated(asked)
        gap = _gap(last, again)
        if gap:
            raise Broken(f"evaluation_weights gives others when it is asked twice after step {step}: {gap}")
        gap = difference(silent.snapshot(), asked.snapshot())
        if gap:
            raise Broken(
                f"to ask for evaluation_weights after step {step} changes the training: {gap}; return other "
                "tensors, and leave the parameters, from which training goes on, as they are"
            )
        differ |= last is not None and bool(difference(last, asked.weights()))
    return last, differ


def _survives(case: Case) -> None:
    """Raise `Broken` unless a run that is continued from its state_dict evaluates the same weights."""
    half = STEPS // 2
    whole, resumed = _trial(case).run(half), _trial(case)
    resumed.model.load_state_dict(whole.snapshot())
    resumed.optimizer.load_state_dict(copy.deepcopy(whole.optimizer.state_dict()))
    resumed.done = half
    suspects = left_out(whole.optimizer, resumed.optimizer)
    lacks = f"; it lacks {', '.join(suspects[:4])}" if suspects else ""
    for step in range(half, STEPS + 1):
        one = _evaluated(whole)
        try:
            gap = _gap(one, _evaluated(resumed))
        except Exception as error:  # noqa: BLE001 - what is lost may be looked up
            gap = in_words(error)
        if gap:
            raise Broken(
                f"its evaluation weights are lost: continued from state_dict at step {half}, those before "
                f"step {step} differ: {gap}{lacks}"
            )
        if step < STEPS:
            whole.step()
            resumed.step()


def _trial(case: Case) -> Trial:
    # Without weight decay, which adds the weights to their gradients.
    trial = case.trial(case.hyper(weight_decay=0.0), total_steps=STEPS)
    trial.set_lr(LR_FACTOR)
    return trial


def _evaluated(trial: Trial) -> Snapshot | None:
    """Copy what `evaluation_weights` gives, by the parameters' names; raises `Broken` on another form."""
    given: Any = trial.optimizer.evaluation_weights()
    if given is None:
        return None
    if not isinstance(given, Sequence) or not all(isinstance(one, Tensor) for one in given):
        raise Broken(f"evaluation_weights gives a {type(given).__name__}: return a list of tensors, or None")
    named = dict(trial.model.named_parameters())
    if [one.shape for one in given] != [p.shape for p in named.values()]:
        raise Broken(
            f"evaluation_weights gives {len(given)} tensors, which are not those of the {len(named)} "
            "parameters: return one of the same shape for each, in the order in which build gets them"
        )
    found = {name: one.detach().clone() for name, one in zip(named, given, strict=True)}
    endless = [name for name, one in found.items() if not bool(torch.isfinite(one).all())]
    if endless:
        raise Broken(f"evaluation_weights are not finite in {endless[0]} after step {trial.done - 1}")
    return found


def _gap(one: Snapshot | None, other: Snapshot | None) -> str:
    """Where two sets of evaluation weights differ, in words; empty if they are equal bit for bit."""
    if one is None or other is None:
        return "" if one is other else "once there are none"
    return difference(one, other)


def _kept(case: Case) -> str:
    """Name the states that follow the trained weights without being copies of them; empty if none does."""
    trial = _trial(case)
    start = _copied(trial)
    copies: dict[str, set[str]] = {}
    cosines: dict[str, float] = {}
    for _ in range(STEPS):
        before = _copied(trial)
        trial.step()
        references = dict(zip(COPIES, (_copied(trial), before, start), strict=True))
        found = kept(trial.optimizer, trial.parameters)
        cosines = {name: state.cosine(references["now"]) for name, state in found.items()}
        for name, state in found.items():
            equal = {kind for kind, weights in references.items() if state.equals(weights)}
            copies[name] = copies.get(name, equal) & equal
    return ", ".join(name for name, cosine in cosines.items() if cosine >= LIKE and not copies[name])


def _copied(trial: Trial) -> list[Tensor]:
    return [p.detach().clone() for p in trial.parameters]
