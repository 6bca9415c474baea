"""The promises of an optimizer entry."""

from __future__ import annotations

import ast
import copy
import io
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.conformance.check import Broken, Check, Promise, judge_all, name_and_text
from suite.conformance.state import left_out
from suite.conformance.trial import BATCHES, STEPS, Trial, difference, logistic
from suite.registry import Found
from suite.schedule import SHARED
from suite.spec import OptimizerSpec, Value, resolve_params

DESCENT_STEPS = 60
DESCENT_FACTOR = 0.9
"""The loss of the convex problem must end below this part of where it began."""

LAYOUT_TOLERANCE = 1e-9
"""Two memory layouts may differ by float64 rounding (1e-16 a sum), grown over the steps and a square root."""


_NEEDED = 4
"""The first promises, up to determinism, without which the others cannot be judged."""


def check_optimizer(found: Found, overrides: Mapping[str, Value | str] | None = None) -> list[Check]:
    """Put an optimizer entry through the battery, at its defaults or with some parameters overridden.

    Runs on one CPU thread on problems made on the spot, and leaves torch's generator and thread count as
    it found them. Where an entry is malformed, cannot step or is not deterministic, the rest is not judged.
    """
    assert isinstance(found.entry, OptimizerSpec)
    case = _Case(found, found.entry, dict(overrides or {}))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return judge_all(case.promises(), needed=_NEEDED)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Case:
    found: Found
    entry: OptimizerSpec
    overrides: dict[str, Value | str]

    def promises(self) -> list[Promise]:
        listed: list[Promise] = [
            ("is well formed", self.well_formed),
            ("builds a torch optimizer", self.builds),
            ("takes a step", self.takes_a_step),
            ("is deterministic", self.deterministic),
            ("goes downhill", self.descends),
            ("costs what it declares", self.cost),
            ("equals its base at zero", self.zero),
            ("resumes exactly", self.resumes),
            ("has a weights-only checkpoint", self.weights_only),
            ("restores the weights", self.restores),
            ("draws only its own noise", self.own_noise),
            ("zeroes gradients itself", self.zeroes_gradients),
            ("reads lr at each step", self.reads_lr),
            ("works with channels_last", self.channels_last),
        ]
        return [promise for promise in listed if promise[0] != "equals its base at zero" or self.entry.zero]

    def hyper(self, **extra: Value) -> dict[str, Value]:
        """Every parameter resolved; `extra` overrides those that the entry has."""
        known = {name: value for name, value in extra.items() if name in self.entry.params}
        return resolve_params(self.entry.params, {**self.overrides, **known}, f"optimizer {self.entry.name}")

    def trial(self, **options: Any) -> Trial:
        return Trial(self.entry, self.hyper(), **options)

    # -- form --------------------------------------------------------------------------------------

    def well_formed(self) -> str:
        entry = self.entry
        name_and_text(entry.name, entry.version, {"summary": entry.summary, "source": entry.source})
        missing = sorted(SHARED.keys() - entry.params.keys())
        if missing:
            raise Broken(f"params lack {', '.join(missing)}: merge suite.schedule.SHARED into them")
        if "lr" not in entry.params:
            raise Broken("params lack lr: every optimizer has a learning rate")
        if not entry.params["lr"].search:
            raise Broken("the parameter lr has no search space: give Param(search=...), as tuning needs one")
        silent = [name for name, param in entry.params.items() if not param.help]
        if silent:
            raise Broken(f"no help text for {', '.join(silent)}: say what each parameter is")
        stranger = sorted(entry.zero.keys() - entry.params.keys())
        if stranger:
            raise Broken(f"zero names {', '.join(stranger)}, which params do not declare")
        if not ast.get_docstring(ast.parse(self.found.path.read_text(encoding="utf-8"))):
            raise Broken(f"{self.found.path.name} has no docstring: state the update rule and its source")
        cost = float(entry.cost(self.hyper()))
        if not (math.isfinite(cost) and cost > 0):
            raise Broken(f"cost(hyper) is {cost}: declare sample-gradients per example and step, above 0")
        return f"{len(entry.params)} parameters, {cost:g} sample-gradient(s) per example and step"

    def builds(self) -> str:
        trial = self.trial()
        if not isinstance(trial.optimizer, torch.optim.Optimizer):
            raise Broken(f"build returns a {type(trial.optimizer).__name__}, not a torch.optim.Optimizer")
        held = {id(p) for group in trial.optimizer.param_groups for p in group["params"]}
        lost = [name for name, p in trial.model.named_parameters() if id(p) not in held]
        if lost:
            raise Broken(f"param_groups lack {', '.join(lost)}: hold every parameter that build is given")
        if any("lr" not in group for group in trial.optimizer.param_groups):
            raise Broken("a parameter group has no lr: the schedule sets group['lr'] before each step")
        return type(trial.optimizer).__name__

    def takes_a_step(self) -> str:
        trial = self.trial()
        loss = trial.step()
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            raise Broken(f"step returns {_kind(loss)}: return the batch loss, a 0-dim tensor")
        if loss.requires_grad:
            raise Broken("step returns a loss with a graph: return it detached, as the objective gives it")
        if not math.isfinite(float(loss)):
            raise Broken(f"step returns the loss {float(loss)}: it must be finite at the first step")
        return f"loss {float(loss):.3f}"

    # -- maths -------------------------------------------------------------------------------------

    def descends(self) -> str:
        trial = self.trial(net=logistic, batches=(60,), total_steps=DESCENT_STEPS)
        start = trial.loss()
        end = trial.run(DESCENT_STEPS).loss()
        course = f"{start:.3f} to {end:.3f} in {DESCENT_STEPS} steps of logistic regression at the default lr"
        if not math.isfinite(end):
            raise Broken(f"the loss went from {course}: the update diverges on a convex problem")
        if end > start:
            raise Broken(f"the loss rose from {course}: the update goes uphill, so its sign is likely wrong")
        if end > DESCENT_FACTOR * start:
            raise Broken(f"the loss only went from {course}: the update or the default lr is too small")
        return f"loss {course}"

    def cost(self) -> str:
        declared = float(self.entry.cost(self.hyper()))
        trial = self.trial()
        for n in BATCHES:
            before = trial.objective.meter.sample_gradients
            trial.step()
            counted = (trial.objective.meter.sample_gradients - before) / n
            if not math.isclose(counted, declared, rel_tol=1e-9):
                raise Broken(
                    f"declares {declared:g} sample-gradient{'s' * (declared != 1)} per example and step, the "
                    f"meter counted {counted:g} on a batch of {n}: mend cost(hyper), or the calls in step"
                )
        return f"{declared:g} per example and step, on batches of {_list(BATCHES)}"

    def zero(self) -> str:
        hyper = self.hyper(**self.entry.zero)
        at = ", ".join(f"{name}={value}" for name, value in self.entry.zero.items())
        method, plain = Trial(self.entry, hyper), Trial(self.entry, hyper)
        base = getattr(plain.optimizer, "base", None)
        if not isinstance(base, torch.optim.Optimizer):
            raise Broken(f"declares zero ({at}) but its optimizer has no `base`: keep the wrapped one there")
        for step in range(STEPS):
            method.step()
            plain.load()
            plain.objective()
            base.step()
            plain.done += 1
            gap = difference(method.snapshot(), plain.snapshot())
            if gap:
                raise Broken(
                    f"at {at} step {step} does not equal the base {type(base).__name__} bit for bit: {gap}; "
                    "rounding in perturb and restore, or running statistics of another evaluation"
                )
        return f"at {at} equal to {type(base).__name__} bit for bit over {STEPS} steps"

    # -- reproducibility ---------------------------------------------------------------------------

    def deterministic(self) -> str:
        gap = difference(self.trial().run(STEPS).snapshot(), self.trial().run(STEPS).snapshot())
        if gap:
            raise Broken(f"two runs of one seed differ: {gap}; a draw that does not come from context.noise")
        return f"two runs of one seed agree bit for bit over {STEPS} steps"

    def resumes(self) -> str:
        half = STEPS // 2
        whole = self.trial().run(half)
        state, model = copy.deepcopy(whole.optimizer.state_dict()), whole.snapshot()
        resumed = self.trial()
        resumed.model.load_state_dict(model)
        resumed.optimizer.load_state_dict(state)
        resumed.done = half
        suspects = left_out(whole.optimizer, resumed.optimizer)
        for step in range(half, STEPS):
            gap = difference(whole.run(1).snapshot(), resumed.run(1).snapshot())
            if gap:
                named = f"it lacks {', '.join(suspects[:4])}" if suspects else "state left out of it?"
                raise Broken(
                    f"continued from its state_dict at step {half}, step {step} differs: {gap}; {named}"
                )
        return f"continues bit for bit from its state_dict at step {half}"

    def weights_only(self) -> str:
        buffer = io.BytesIO()
        torch.save(self.trial().run(2).optimizer.state_dict(), buffer)
        size = buffer.tell()
        buffer.seek(0)
        try:
            torch.load(buffer, weights_only=True)
        except Exception as error:  # noqa: BLE001 - torch raises several kinds
            reason = str(error).split("\n")[0][:160]
            raise Broken(
                f"state_dict cannot be loaded without unpickling objects: {reason}; keep tensors and plain "
                "numbers, texts, lists and dicts only"
            ) from None
        return f"{size} bytes of tensors and plain values"

    def restores(self) -> str:
        trial = Trial(self.entry, self.hyper(weight_decay=0.0))
        moving = Trial(self.entry, self.hyper(weight_decay=0.0)).run(1)
        before = trial.weights()
        trial.set_lr(0.0)
        after = trial.run(1).weights()
        gap = difference(before, after)
        if gap and not difference(after, moving.weights()):
            return "not judged: the update does not depend on lr"
        if gap:
            raise Broken(
                f"a step at lr = 0 without weight decay moves the weights: {gap}; restore perturbed weights "
                "from a copy, not by adding and subtracting"
            )
        return "a step at lr = 0 without weight decay leaves the weights as they were, bit for bit"

    def own_noise(self) -> str:
        trial = self.trial()
        watch = _Watch(trial)
        for _ in range(len(BATCHES)):
            trial.load()
            watch.begin()
            trial.optimizer.step(watch)
            watch.end()
            trial.done += 1
        if watch.drawn:
            raise Broken(
                f"step draws from {watch.drawn}, which other streams and seeds share: draw from "
                "context.noise.fill_(out, step, draw) alone"
            )
        return "the global generators are untouched between objective calls"

    def zeroes_gradients(self) -> str:
        clean, stale = self.trial(), self.trial()
        for step in range(2):
            clean.step()
            stale.load()
            for p in stale.parameters:
                p.grad = torch.full_like(p, 10.0)
            stale.optimizer.step(stale.objective)
            stale.done += 1
            gap = difference(clean.snapshot(), stale.snapshot())
            if gap:
                raise Broken(
                    f"gradients left in p.grad change step {step}: {gap}; call self.zero_grad() before the "
                    "first objective call, which accumulates"
                )
        return "gradients left in p.grad before a step change nothing"

    # -- the engine's demands ----------------------------------------------------------------------

    def reads_lr(self) -> str:
        judged = []
        for step in (0, 1, STEPS - 1):
            full, lower = self.trial().run(step), self.trial().run(step)
            start = full.weights()
            lower.set_lr(0.5)
            gap = difference(full.run(1).weights(), lower.run(1).weights())
            if not difference(start, full.weights()):
                continue  # some methods wait some steps before they move
            if not gap:
                raise Broken(
                    f"halving group['lr'] before step {step} changes nothing: read lr from self.param_groups "
                    "in every step, else schedules have no effect"
                )
            judged.append(str(step))
        if not judged:
            raise Broken(f"no step of {STEPS} moves the weights")
        return f"halving group['lr'] changes what step {', '.join(judged)} does"

    def channels_last(self) -> str:
        options: dict[str, Any] = {"dtype": torch.float64, "silent": True}
        ours, other = self.trial(**options), self.trial(channels_last=False, **options)
        start, strides = ours.snapshot(), [p.stride() for p in ours.parameters]
        ours.run(len(BATCHES))
        if [p.stride() for p in ours.parameters] != strides:
            raise Broken("a step changes the memory format of weights: write into p.data, do not replace it")
        end, end_other = ours.snapshot(), other.run(len(BATCHES)).snapshot()
        for name, _ in ours.model.named_parameters():
            moved = float((end[name] - start[name]).abs().max())
            gap = float((end[name] - end_other[name]).abs().max())
            if not gap <= LAYOUT_TOLERANCE * max(1.0, moved):
                raise Broken(
                    f"with channels_last weights {name} ends elsewhere (max |d| = {gap:.1e} of {moved:.1e} "
                    "moved): flat views of weights and gradients in different memory orders?"
                )
        return "the same update in both memory formats"


class _Watch:
    """An objective that notes whether a global generator moved while the optimizer was at work."""

    def __init__(self, trial: Trial) -> None:
        self._objective = trial.objective
        self.drawn = ""

    def begin(self) -> None:
        self._torch, self._python, self._numpy = torch.get_rng_state(), random.getstate(), _numpy_state()

    def end(self) -> None:
        if not torch.equal(self._torch, torch.get_rng_state()):
            self.drawn = "torch's global generator"
        elif self._python != random.getstate():
            self.drawn = "Python's global generator"
        elif self._numpy != _numpy_state():
            self.drawn = "numpy's global generator"

    def __call__(self, part: int = 0, parts: int = 1, track_stats: bool = True) -> Tensor:
        self.end()
        loss = self._objective(part, parts, track_stats)
        self.begin()
        return loss


def _numpy_state() -> str:
    name, keys, *rest = np.random.get_state()
    return f"{name} {np.asarray(keys).tobytes().hex()} {rest}"


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _list(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes[:-1])) + f" and {sizes[-1]}"


__all__ = ["check_optimizer"]
