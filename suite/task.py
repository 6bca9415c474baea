"""What a task declares: its data, budget and metrics, and what an optimizer may ask of it. Loads no torch.

A task is a declaration; the `Problem` that its `problem` makes for one run (suite.problem) holds data, model,
loss and evaluation. `suite.problems.image_task` declares image classification on top of this.
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
"""What an optimizer may need of a task, and what that means."""

MEASURES = ("lambda_max", "hessian_trace", "lpf", "lpf_difference")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, model, loss, batch size, budget and evaluation, as one frozen definition.

    `data` lists the data sets that may serve, the genuine one first; a run uses exactly one and its
    name goes through to the tables. `problem` makes the task ready for one run.
    """

    name: str
    version: str
    tier: str
    summary: str
    data: tuple[Data, ...]
    problem: Callable[[Any], Any]
    """Makes the `Problem` of a run from its `Setting`, both of `suite.problem`, which imports this file."""
    metrics: tuple[Metric, ...]
    """What evaluation gives for a split; the first is primary: rows are compared by it."""
    epochs: float
    batch_size: int
    """Examples of a step; 0 is all of them, in their own order, one step an epoch."""
    n_train: int | None = None
    """Examples of an epoch, so that a plan can forecast the cost; None: known after loading only."""
    tests: tuple[str, ...] = ("test",)
    """Splits that are sealed while a run trains and evaluated once, at the end; there may be none."""
    validation: str = "validation"
    """The split that selection may see; empty where there is none."""
    extras: tuple[str, ...] = ()
    """Further splits that are evaluated at the end, and of which nothing is selected."""
    facts: tuple[Metric, ...] = ()
    """Numbers of the whole run, which `Problem.conclude` gives."""
    columns: tuple[Metric, ...] = ()
    """Columns of the rows of the epochs, which `Problem.watch` gives."""
    profiles: tuple[Profile, ...] = ()
    """Curves as results, which `Problem.conclude` gives."""
    separable: bool = True
    """Whether the batch loss is a mean over examples. A joint loss (contrastive) is one of whole batches: it
    cannot be split over parts or ranks, and the smaller batch at the end of an epoch is left out."""
    twice_differentiable: bool = True
    """Whether the loss can be differentiated more than once: operations without a double backward cannot."""
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16")
    """Those it can run in; the first is its own."""
    evaluate_every: int = 1
    """Epochs from one look at the validation split to the next; the last epoch is always looked at."""
    measures: tuple[str, ...] = MEASURES
    """Sharpness measures taken at the end."""
    measure_examples: int = 1000
    """Size of the fixed training subset on which sharpness and its training loss are measured."""
    measure_every: int = 0
    """Epochs from one measuring to the next along training, the last epoch included; 0: only at the end."""
    curve_measures: tuple[str, ...] = ("lambda_max",)
    """The measures taken along training."""
    expected: str = ""
    """What a run is expected to reach and to cost, in words, with the machine it was seen on."""

    def __post_init__(self) -> None:
        """Raise SteppeError where the declaration does not fit together."""
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
            if isinstance(names, str):  # a text is a sequence of names, too: its letters
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
        """Return the columns of the rows of the epochs that are not the task's own to write."""
        described = self.description
        splits = ["train", *([described.validation] if described.validation else [])]
        metrics = ["loss", *(metric.name for metric in described.metrics)]
        fixed = {"epoch", "step", "lr", "sample_gradients", "sharpness_train_loss", *MEASURES}
        return fixed | {f"{split}_{metric}" for split in splits for metric in metrics}

    @cached_property
    def description(self) -> Description:
        """What a record says of the task."""
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
        """Which of `CAPABILITIES` the task has."""
        has = {
            "parts": self.separable,
            "function": self.twice_differentiable,
            "full-batch": not self.batch_size,
        }
        return frozenset(name for name, there in has.items() if there)

    def training_examples(self, data: str) -> int | None:
        """Return the examples of an epoch on the data set of that name; None where that is not declared."""
        return self.n_train


@dataclass(frozen=True)
class TaskSpec:
    """An entry of tasks/: one task, or a family of tasks spanned by declared parameters."""

    name: str
    version: str
    tier: str
    summary: str
    make: Callable[..., Task]
    params: Mapping[str, Param] = field(default_factory=dict)


def check_fit(
    task: Task, optimizer: OptimizerSpec, hyper: Mapping[str, Any], ranks: int, precision: str
) -> None:
    """Raise SteppeError where the optimizer needs, or the run asks, what the task cannot give.

    The cost must be known, too: the record of the run holds it.
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
