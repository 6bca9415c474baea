"""The training steps of a run: model, optimizer and objective, and what the next step depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from suite.context import Context, build_model
from suite.objective import BatchObjective, Objective
from suite.precision import PerturbationProbe, low_precision_cast
from suite.ranks import Ranks
from suite.schedule import lr_factor
from suite.seeds import NormalStream, Streams
from suite.spec import BuildContext


class Steps:
    """Takes the steps of one run, in each of its processes alike."""

    def __init__(self, context: Context, ranks: Ranks) -> None:
        self.context, self._ranks = context, ranks
        spec = context.spec
        self.model = build_model(context)
        self.optimizer = context.entry.build(
            list(self.model.parameters()),
            spec.optimizer.params,
            BuildContext(context.total_steps, NormalStream(spec.seed)),
        )
        self._initial_lr = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.objective = BatchObjective(
            torch.compile(self.model) if spec.compile else self.model,  # type: ignore[arg-type]
            context.loss,
            Streams(spec.seed, context.device),
            separable=context.task.separable,
            autocast=context.autocast,
            ranks=ranks,
        )
        self.step = 0
        """Steps taken."""
        self.cosines: dict[str, float] = {}
        """Realised against intended perturbation in low precision, at the first and the last step."""
        self.reset_sums()

    def reset_sums(self) -> None:
        """Begin the sums of another epoch."""
        zero = torch.zeros((), dtype=torch.float64, device=self.context.device)
        self.sums = {"loss": zero, "correct": zero.clone(), "examples": zero.clone()}

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain data."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": vars(self.objective.meter).copy(),
            "sums": dict(self.sums),
            "cosines": dict(self.cosines),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.meter.__dict__.update(state["meter"])
        self.sums = {key: value.to(self.context.device) for key, value in state["sums"].items()}
        self.cosines = dict(state["cosines"])

    def take(self) -> None:
        """Take the next step."""
        context, step = self.context, self.step
        inputs, targets = context.batches.batch(step)
        factor = lr_factor(context.spec.optimizer.params, step, context.total_steps)
        for group, lr in zip(self.optimizer.param_groups, self._initial_lr, strict=True):
            group["lr"] = lr * factor
        self.objective.load(step, inputs, targets)
        cast = low_precision_cast(context.spec) if step in (0, context.total_steps - 1) else None
        if cast is not None and context.entry.perturbs:
            loss = self._probed_step("first" if step == 0 else "last", cast)
        else:
            loss = self._ask_for_step(self.objective)
        sums = self.sums
        sums["loss"] += loss * len(targets)
        if self.objective.correct is not None:
            sums["correct"] += self.objective.correct
        sums["examples"] += len(targets)
        self.step += 1
        if self.step % context.batches.steps_per_epoch == 0:
            self._ranks.check(list(self.model.parameters()))

    def _probed_step(self, name: str, cast: Callable[[Tensor], Tensor]) -> Tensor:
        probe = PerturbationProbe(self.objective, self.model, cast)
        loss = self._ask_for_step(probe)
        if probe.cosine is not None:
            self.cosines[name] = probe.cosine
        return loss

    def _ask_for_step(self, objective: Objective) -> Tensor:
        # torch types the argument of step as a plain closure.
        loss: Tensor = self.optimizer.step(objective)  # type: ignore[arg-type, assignment]
        return loss
