"""Declaration of a task: data, budget, metrics, and the capabilities that optimizers need. Loads no torch.

A task is a declaration; its `problem` builds the `Problem` of one run (suite.problem) with data, model, loss
and evaluation. `suite.problems.image_task` declares image classification on top of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from suite.errors import SteppeError, unknown
from suite.metric import Description, Metric, Profile
from suite.spec import PRECISIONS, TIERS, OptimizerSpec, Param, cost_of, needs_of

if TYPE_CHECKING:
    from suite.data.dataset import Data

CAPABILITIES = {
    "parts": "a batch loss that is a mean over examples, so that the mini-batch can be split",
    "function": "a loss that can be differentiated more than once",
    "full-batch": "all training examples in every step",
}
"""Capabilities that an optimizer may need of a task, each with its meaning."""

MEASURES = ("lambda_max", "hessian_trace", "lpf", "lpf_difference")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, model, loss, batch size, budget and evaluation, as one frozen definition.

    `data` lists the admissible data sets, the genuine one first; a run uses exactly one, whose name appears
    in the tables. `problem` prepares the task for one run.
    """

    name: str
    version: str
    tier: str
    summary: str
    data: tuple[Data, ...]
    problem: Callable[[Any], Any]
    """Builds the `Problem` of a run from its `Setting`; untyped because `suite.problem` imports this file."""
    metrics: tuple[Metric, ...]
    """Metrics of a split; the first is primary: rows are compared by it."""
    epochs: float
    batch_size: int
    """Examples per step; 0: all examples in their own order, one step per epoch."""
    n_train: int | None = None
    """Examples per epoch, from which a plan forecasts the cost; None: known only after loading."""
    tests: tuple[str, ...] = ("test",)
    """Splits that are sealed while a run trains and evaluated once, at the end; may be empty."""
    validation: str = "validation"
    """The split available to model selection; empty if the task has none."""
    extras: tuple[str, ...] = ()
    """Further splits that are evaluated at the end and never used for selection."""
    facts: tuple[Metric, ...] = ()
    """Numbers about the whole run, returned by `Problem.conclude`."""
    columns: tuple[Metric, ...] = ()
    """Columns of the rows of the epochs, returned by `Problem.watch`."""
    profiles: tuple[Profile, ...] = ()
    """Curves as results, returned by `Problem.conclude`."""
    separable: bool = True
    """Whether the batch loss is a mean over examples. A joint loss (contrastive) is defined on whole batches:
    it cannot be split over parts or ranks, and the smaller batch at the end of an epoch is dropped."""
    twice_differentiable: bool = True
    """Whether the loss can be differentiated more than once; some operations have no double backward."""
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16")
    """Supported precisions; the first is the default."""
    evaluate_every: int = 1
    """Epochs between evaluations of the validation split; the last epoch is always evaluated."""
    measures: tuple[str, ...] = MEASURES
    """Sharpness measures taken at the end."""
    measure_examples: int = 1000
    """Size of the fixed training subset on which sharpness and its training loss are measured."""
    measure_every: int = 0
    """Epochs between measurements during training, the last epoch included; 0: only at the end."""
    curve_measures: tuple[str, ...] = ("lambda_max",)
    """Sharpness measures taken during training."""
    expected: str = ""
    """Expected results and cost of a run in words, with the machine on which they were observed."""

    def __post_init__(self) -> None:
        """Raise SteppeError if the declaration is inconsistent."""
        if self.tier not in TIERS:
            raise unknown(f"tier of task {self.name}", self.tier, TIERS)
        if not self.data:
            raise SteppeError(f"task {self.name}: data is empty; list at least one data set")
        if not 0 < self.epochs < math.inf:
            raise SteppeError(f"task {self.name}: epochs is {self.epochs}; valid: a number above 0")
        for what, least in (
            ("batch_size", 0),
            ("evaluate_every", 1),
            ("measure_every", 0),
            ("measure_examples", 1),
        ):
            value = getattr(self, what)
            if not isinstance(value, int) or value < least:
                raise SteppeError(
                    f"task {self.name}: {what} is {value!r}; valid: a whole number from {least} on"
                )
        for what in ("tests", "extras", "measures", "curve_measures", "precisions"):
            names: object = getattr(self, what)
            if isinstance(names, str):  # a str is a sequence of one-letter names
                raise SteppeError(
                    f"task {self.name}: {what} is a text; valid: a tuple of names, ({names!r},)"
                )
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise unknown(f"precision of task {self.name}", precision, PRECISIONS)
        if not self.precisions:
            raise SteppeError(f"task {self.name}: precisions is empty; valid: {', '.join(PRECISIONS)}")
        own = self._columns_of_the_engine()
        for column in self.columns:
            if column.name in own or any(column.name.startswith(f"{measure}_se_") for measure in MEASURES):
                raise SteppeError(
                    f"task {self.name}: columns: {column.name!r} is a column that every run writes itself; "
                    f"choose another name than {', '.join(sorted(own))}"
                )

    def _columns_of_the_engine(self) -> set[str]:
        """Return the names of the epoch columns that the engine writes and a task may not declare."""
        described = self.description
        splits = ["train", *([described.validation] if described.validation else [])]
        metrics = ["loss", *(metric.name for metric in described.metrics)]
        fixed = {"epoch", "step", "lr", "sample_gradients", "sharpness_train_loss", *MEASURES}
        return fixed | {f"{split}_{metric}" for split in splits for metric in metrics}

    @cached_property
    def description(self) -> Description:
        """The description of the task in a record."""
        try:
            return Description(
                tier=self.tier,  # type: ignore[arg-type]
                epochs=float(self.epochs),
                metrics=self.metrics,
                tests=self.tests,
                validation=self.validation,
                extras=self.extras,
                facts=self.facts,
                columns=self.columns,
                profiles=self.profiles,
            )
        except ValueError as error:
            raise SteppeError(f"task {self.name}: {error}") from None

    @property
    def gives(self) -> frozenset[str]:
        """The names of the `CAPABILITIES` that the task has."""
        has = {
            "parts": self.separable,
            "function": self.twice_differentiable,
            "full-batch": not self.batch_size,
        }
        return frozenset(name for name, there in has.items() if there)

    def training_examples(self, data: str) -> int | None:
        """Return the examples per epoch on the named data set; None if they are not declared."""
        return self.n_train


@dataclass(frozen=True)
class TaskSpec:
    """An entry of tasks/: one task, or a family of tasks with declared parameters."""

    name: str
    version: str
    tier: str
    summary: str
    make: Callable[..., Task]
    params: Mapping[str, Param] = field(default_factory=dict)


def check_fit(
    task: Task, optimizer: OptimizerSpec, hyper: Mapping[str, Any], ranks: int, precision: str
) -> None:
    """Raise SteppeError if the task lacks a needed capability, or forbids these ranks or this precision.

    The declared cost of the optimizer is checked too, because the record of the run holds it.
    """
    cost_of(optimizer, hyper)
    for need in needs_of(optimizer, hyper):
        if need not in CAPABILITIES:
            raise unknown(f"need of optimizer {optimizer.name}", need, CAPABILITIES)
        if need not in task.gives:
            raise SteppeError(
                f"optimizer {optimizer.name} needs {CAPABILITIES[need]} ({need!r}), which task {task.name} "
                f"does not give; it gives: {', '.join(sorted(task.gives)) or 'nothing of the kind'}"
            )
        if need == "function" and ranks > 1:
            raise SteppeError(
                f"optimizer {optimizer.name} needs the loss as a function, on 1 rank only, not {ranks}"
            )
    if precision not in task.precisions:
        raise unknown(f"precision of task {task.name}", precision, task.precisions)
    most = task.batch_size or task.n_train or 1
    if not 1 <= ranks <= most:
        raise SteppeError(
            f"{ranks} ranks for task {task.name}; valid: 1 to {most}, the size of its mini-batches"
        )
    if ranks > 1 and not task.separable:
        raise SteppeError(
            f"task {task.name}: its batch loss is no mean over examples, so that ranks cannot share a "
            f"mini-batch; valid: 1"
        )
