"""Promises of an optimizer about state, noise, gradients, learning rate and memory format."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch

from suite.conformance.optimizers.observer import Observer
from suite.conformance.optimizers.problems import BATCHES, STEPS
from suite.conformance.optimizers.state_dict import left_out
from suite.conformance.optimizers.trial import OptimizerCase
from suite.conformance.promise import Broken, Faults, difference, in_words

LAYOUT_TOLERANCE = 1e-9
"""Tolerance between memory layouts: float64 rounding (1e-16 a sum), amplified by steps and a square root."""

ROUNDING = 1e-6
"""Tolerance for float32 rounding relative to a weight tensor's norm; a unit in the last place is 6e-8."""


def resumes(case: OptimizerCase) -> Faults:
    """state_dict contains everything that the next step depends on."""
    half = STEPS // 2
    whole = case.trial().run(half)
    state = copy.deepcopy(whole.optimizer.state_dict())
    try:
        resumed = whole.continued(state)
    except Exception as error:  # noqa: BLE001 - an entry under test may raise anything
        raise Broken(f"load_state_dict refuses what state_dict gave: {in_words(error)}") from None
    lacks = left_out(whole, resumed) or "state left out of it?"
    for step in range(half, STEPS):
        gap = whole.run(1).gap(resumed.run(1))
        yield gap and f"continued from its state_dict at step {half}, step {step} differs: {gap}; {lacks}"
    return f"continues bit for bit from its state_dict at step {half}"


def weights_only(case: OptimizerCase) -> Faults:
    """torch.load reads a saved state_dict with weights_only=True."""
    buffer = io.BytesIO()
    try:
        torch.save(case.trial().run(2).optimizer.state_dict(), buffer)
        size = buffer.tell()
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises several kinds
        reason = str(error).split("\n")[0][:160]
        yield (
            f"state_dict cannot be saved and loaded without pickled objects: {reason}; keep tensors and "
            "plain numbers, texts, lists and dicts only"
        )
    return f"{size} bytes of tensors and plain values"


def restores(case: OptimizerCase) -> Faults:
    """A step at lr = 0 leaves the weights bit-identical.

    Rounding is allowed for a method that perturbs nothing and computes its weights from other tensors.
    """
    hyper = case.hyper(weight_decay=0.0)
    trial, moving = case.trial(hyper), case.trial(hyper).run(1)
    before = trial.weights()
    trial.scale_lr(0.0)
    moved, after = Observer(trial).run(1).moved, trial.weights()
    gap = difference(before, after)
    if gap and not difference(after, moving.weights()):
        return "not judged: the update does not depend on lr"
    sizes = ((after[name] - one, one) for name, one in before.items())
    if gap and not moved and all(float(d.norm()) <= ROUNDING * float(w.norm()) for d, w in sizes):
        return "a step at lr = 0 without weight decay moves the weights by rounding alone, and perturbs none"
    yield gap and (
        f"a step at lr = 0 without weight decay moves the weights: {gap}; restore perturbed weights "
        "from a copy, not by adding and subtracting"
    )
    return "a step at lr = 0 without weight decay leaves the weights as they were, bit for bit"


def own_noise(case: OptimizerCase) -> Faults:
    """The only source of randomness is `context.noise`."""
    drawn = Observer(case.trial()).run(len(BATCHES)).drawn
    yield drawn and (
        f"step draws from {drawn}, which other streams and seeds share: draw from "
        "context.noise.fill_(out, step, draw) alone"
    )
    return "the global generators are untouched between objective calls"


def zeroes_gradients(case: OptimizerCase) -> Faults:
    """Gradients left in p.grad before a step have no effect."""
    clean, stale = case.trial(), case.trial()
    for step in range(2):
        clean.run(1)
        stale.load()
        for p in stale.parameters:
            p.grad = torch.full_like(p, 10.0)
        stale.take()
        gap = clean.gap(stale)
        yield gap and (
            f"gradients left in p.grad change step {step}: {gap}; call self.zero_grad() before the "
            "first objective call, which accumulates"
        )
    return "gradients left in p.grad before a step change nothing"


def reads_lr(case: OptimizerCase) -> Faults:
    """A schedule that sets group['lr'] takes effect."""
    judged = []
    for step in (0, 1, STEPS - 1):
        full, lower = case.trial().run(step), case.trial().run(step)
        start = full.weights()
        lower.scale_lr(0.5)
        gap = difference(full.run(1).weights(), lower.run(1).weights())
        if not difference(start, full.weights()):
            continue  # some methods wait some steps before they move
        yield not gap and (
            f"halving group['lr'] before step {step} changes nothing: read lr from self.param_groups "
            "in every step, else schedules have no effect"
        )
        judged.append(str(step))
    yield not judged and f"no step of {STEPS} moves the weights"
    return f"halving group['lr'] changes what step {', '.join(judged)} does"


def channels_last(case: OptimizerCase) -> Faults:
    """Weights keep their memory format, and the update does not depend on it."""
    options: dict[str, Any] = {"dtype": torch.float64, "even_noise": True}
    ours, other = case.trial(**options), case.trial(channels_last=False, **options)
    start, strides = ours.snapshot(), [p.stride() for p in ours.parameters]
    ours.run(len(BATCHES))
    if [p.stride() for p in ours.parameters] != strides:
        yield "a step changes the memory format of weights: write into p.data, do not replace it"
    end, end_other = ours.snapshot(), other.run(len(BATCHES)).snapshot()
    for name in ours.weights():
        moved = float((end[name] - start[name]).abs().max())
        gap = float((end[name] - end_other[name]).abs().max())
        yield not gap <= LAYOUT_TOLERANCE * max(1.0, moved) and (
            f"with channels_last weights {name} ends elsewhere (max |d| = {gap:.1e} of {moved:.1e} "
            "moved): flat views of weights and gradients in different memory orders?"
        )
    if not difference(start, end):
        return "not judged: the first steps move nothing"
    return "the same update in both memory formats"


def counts_once(case: OptimizerCase) -> Faults:
    """BatchNorm's running statistics count each example of a mini-batch at most once a step.

    Further evaluations of the mini-batch, at other weights, bring no new data. If a hyperparameter selects
    more, as replays of published code do, the entry is judged at its defaults.
    """
    most = Observer(case.trial()).run(len(BATCHES)).counted
    if most > 1:
        defaults = OptimizerCase(case.found, case.entry, {})
        if case.overrides and Observer(defaults.trial()).run(len(BATCHES)).counted <= 1:
            chosen = ", ".join(f"{name}={value}" for name, value in case.overrides.items())
            return f"{most} times a step, as {chosen} chooses; at the defaults once"
        yield (
            f"running statistics take up a mini-batch {most} times a step: give track_stats=False to each "
            "evaluation but one, or make it a hyperparameter whose default counts once"
        )
    if not most:
        return "no evaluation counts: the statistics of the start stay until they are estimated anew"
    return "running statistics take up each example once a step"
