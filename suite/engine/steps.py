"""The training steps of a run: model, optimizer and objective, and the state of the next step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from suite.engine.context import Context, build_model
from suite.engine.precision import PerturbationProbe, low_precision_cast
from suite.errors import SteppeError
from suite.objective import BatchObjective, Objective
from suite.parameters import Parameters
from suite.problem import check_score_names
from suite.process_group import ProcessGroup
from suite.schedule import lr_factor
from suite.seeds import NormalStream, Streams
from suite.spec import BuildContext


class Steps:
    """Takes the steps of one run, identically in each of its processes."""

    def __init__(self, context: Context, ranks: ProcessGroup) -> None:
        self.context, self._ranks = context, ranks
        spec = context.spec
        check_score_names(context.task.name, context.problem.score_names)
        self.model = build_model(context)
        if not any(p.requires_grad for p in self.model.parameters()):
            raise SteppeError(
                f"task {context.task.name}: its model has nothing to train; valid: a model with a parameter "
                "that requires a gradient"
            )
        self.optimizer = context.entry.build(
            Parameters.of(self.model, context.problem.head(self.model)),
            spec.optimizer.params,
            BuildContext(context.total_steps, NormalStream(spec.seed)),
        )
        self._initial_lr = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._needs_function = "function" in context.entry.needs(spec.optimizer.params)
        self.objective = BatchObjective(
            torch.compile(self.model) if spec.compile else self.model,  # type: ignore[arg-type]
            context.problem,
            Streams(spec.seed, context.device),
            separable=context.task.separable,
            autocast=context.autocast,
            ranks=ranks,
        )
        self.step = 0
        """Number of steps taken."""
        self.cosines: dict[str, float] = {}
        """Cosine of realised and intended perturbation in low precision, at the first and the last step."""
        self.reset_sums()

    def reset_sums(self) -> None:
        """Reset the sums at the start of an epoch: the loss over units, scores by name, units."""
        zero = torch.zeros((), dtype=torch.float64, device=self.context.device)
        self.sums = {"loss": zero, "units": zero.clone()}
        self.sums |= {f"score:{name}": zero.clone() for name in self.context.problem.score_names}

    def means(self) -> dict[str, float]:
        """Return the mean loss and mean scores of the epoch so far, each step's at its own weights."""
        units = float(self.sums["units"])
        names = {"loss": "loss"} | {f"score:{name}": name for name in self.context.problem.score_names}
        return {name: float(self.sums[key]) / units for key, name in names.items()}

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as tensors and plain data."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "evaluated": self._other_weights(),
            "meter": vars(self.objective.meter).copy(),
            "sums": dict(self.sums),
            "cosines": dict(self.cosines),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore the output of `state`."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.meter.__dict__.update(state["meter"])
        self.sums = {key: value.to(self.context.device) for key, value in state["sums"].items()}
        self.cosines = dict(state["cosines"])

    def evaluated(self) -> tuple[nn.Module, bool]:
        """Return the model to evaluate and record, and whether it differs from the model in training.

        An optimizer that averages weights returns them from a method `evaluation_weights`; a copy of the
        model then holds them, with the BatchNorm statistics of the trained weights until re-estimation.
        """
        weights = self._other_weights()
        return (self.model, False) if weights is None else (with_weights(self.model, weights), True)

    def _other_weights(self) -> list[Tensor] | None:
        weights: object = getattr(self.optimizer, "evaluation_weights", lambda: None)()
        if weights is None:
            return None
        try:
            return whole_weights(list(self.model.parameters()), weights)
        except ValueError as error:
            raise SteppeError(
                f"optimizer {self.context.entry.name}: evaluation_weights gives {error}"
            ) from None

    def take(self) -> None:
        """Take the next step."""
        context, step = self.context, self.step
        batch = context.problem.batch(step)
        if not batch.units:  # the mean over units would divide by zero
            raise SteppeError(
                f"task {context.task.name}: the {len(batch)} examples of the mini-batch of step {step} have "
                "no units; valid: a weight of at least 1 for each example"
            )
        factor = lr_factor(context.spec.optimizer.params, step, context.total_steps)
        for group, lr in zip(self.optimizer.param_groups, self._initial_lr, strict=True):
            group["lr"] = lr * factor
        objective = self.objective
        objective.load(step, batch)
        # The probe copies all weights, so the cosine is measured at the first and the last step only.
        cast = low_precision_cast(context.spec) if step in (0, context.total_steps - 1) else None
        if cast is not None and context.entry.perturbs:
            loss = self._probed_step("first" if step == 0 else "last", cast)
        elif self._needs_function:
            with objective.metered():
                loss = self._ask_for_step(objective)
        else:
            loss = self._ask_for_step(objective)
        sums = self.sums
        sums["loss"] += loss * batch.units
        for name, score in objective.scores.items():
            sums[f"score:{name}"] += score
        sums["units"] += batch.units
        self.step += 1
        if self.step % context.problem.steps_per_epoch == 0:  # unlike processors round differently
            self._ranks.check(list(self.model.parameters()))

    def _probed_step(self, name: str, cast: Callable[[Tensor], Tensor]) -> Tensor:
        probe = PerturbationProbe(self.objective, self.model, cast)
        with self.objective.metered() if self._needs_function else nullcontext():
            loss = self._ask_for_step(probe)
        if probe.cosine is not None:
            self.cosines[name] = probe.cosine
        return loss

    def _ask_for_step(self, objective: Objective) -> Tensor:
        # torch types the argument of step as a plain closure.
        loss: Tensor = self.optimizer.step(objective)  # type: ignore[arg-type, assignment]
        return loss


def whole_weights(parameters: Sequence[nn.Parameter], given: object) -> list[Tensor]:
    """Return one tensor per parameter, given one for every parameter or one for every trained parameter.

    In the second case frozen parameters keep their values. ValueError describes any other input.
    """
    if not isinstance(given, Sequence) or not all(isinstance(one, Tensor) for one in given):
        raise ValueError(f"a {type(given).__name__}: return a list of tensors, or None")
    trained = [p for p in parameters if p.requires_grad]
    shapes = [one.shape for one in given]
    if shapes == [p.shape for p in parameters]:
        return [one.detach() for one in given]
    if shapes != [p.shape for p in trained]:
        raise ValueError(
            f"{len(shapes)} tensors, which are not those of the {len(trained)} trained parameters: return "
            "one of the same shape for each, in their order"
        )
    mine = iter(given)
    return [(next(mine) if p.requires_grad else p).detach() for p in parameters]


def with_weights(model: nn.Module, weights: Sequence[Tensor]) -> nn.Module:
    """Return a copy of the model with the given weights, one tensor per parameter in order."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p, weight in zip(other.parameters(), weights, strict=True):
            p.copy_(weight)
    return other
