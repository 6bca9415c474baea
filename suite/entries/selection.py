"""Which runs: tasks, optimizers and seeds, with everything else that enters their specs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from suite import sharpness
from suite.entries.registry import Registry
from suite.entries.select import select
from suite.errors import SteppeError, unknown
from suite.spec import PRECISIONS, EntryRef, RunSpec, cost_of
from suite.task import check_fit

VIEWS = ("epochs", "sample-gradients")
"""What is held equal between optimizers: passes over the data, or cost (protocol rule 2)."""


@dataclass(frozen=True)
class Selection:
    """Runs by the selectors and settings that span them."""

    tasks: Sequence[str]
    """Selectors of tasks, as typed."""
    optimizers: Sequence[str]
    """Selectors of optimizers, as typed."""
    seeds: Sequence[int]
    _: KW_ONLY
    budget: float = 1.0
    """Multiple of the task's own budget, above 0."""
    view: str = "epochs"
    """One of `VIEWS`."""
    precision: str = ""
    """One of `suite.spec.PRECISIONS`; empty is each task's own."""
    device: str = "cpu"
    """Device kind, `cpu` or `cuda`."""
    threads: int = 1
    """CPU threads of one process."""
    compile: bool = False
    ranks: int = 1
    """Processes that share every mini-batch."""
    data_root: Path | None = None
    """Folder of the data sets; None where they need none."""
    data_name: str = ""
    """One data set of the task by name; empty is the first that is available."""

    def expand(self, registry: Registry) -> list[RunSpec]:
        """Return every run, each once, ordered by task, then seed, then optimizer.

        Seeds come before optimizers so that an unfinished sweep still compares all optimizers on the seeds
        that it reached. A run's epochs are task.epochs * budget, divided by the optimizer's declared
        cost in the view by sample-gradients (protocol rules 2 and 3).

        Raises:
            SteppeError: unknown name, parameter or value; missing data.

        """
        from suite.data.choose import choose_data

        self._check()
        chosen = select(registry, "optimizer", self.optimizers)
        specs: dict[str, RunSpec] = {}
        for task_ref in select(registry, "task", self.tasks):
            task = registry.resolve_task(task_ref)
            dataset = choose_data(task, self.data_root, self.data_name)
            sharpness.check_names((*task.measures, *task.curve_measures))
            precision = self.precision or task.precisions[0]
            if precision == "tf32" and self.device != "cuda":
                raise SteppeError(
                    f"precision tf32 needs a CUDA device, not {self.device}; valid there: fp32, bf16, fp64"
                )
            for optimizer in chosen:
                check_fit(
                    task, registry.resolve_optimizer(optimizer), optimizer.params, self.ranks, precision
                )
            for seed, optimizer in itertools.product(self.seeds, chosen):
                cost = declared_cost(registry, optimizer) if self.view == "sample-gradients" else 1
                spec = RunSpec(
                    task=task_ref,
                    optimizer=optimizer,
                    seed=seed,
                    data=dataset.name,
                    data_checksum=dataset.source.checksum,
                    epochs=float(task.epochs * self.budget / cost),
                    precision=precision,  # type: ignore[arg-type]
                    device=self.device,  # type: ignore[arg-type]
                    threads=self.threads,
                    compile=self.compile,
                    ranks=self.ranks,
                )
                specs[spec.run_id] = spec
        return list(specs.values())

    def _check(self) -> None:
        if not 0 < self.budget < float("inf"):
            raise SteppeError(
                f"budget {self.budget:g} is out of range; valid: (0, inf), times the task's own"
            )
        if self.view not in VIEWS:
            raise unknown("view", self.view, VIEWS)
        if self.precision and self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)


def declared_cost(registry: Registry, reference: EntryRef) -> float:
    """Sample-gradients per example and step that the entry declares for these hyperparameters."""
    return cost_of(registry.resolve_optimizer(reference), reference.params)


def sample_gradients(
    registry: Registry, specs: Collection[RunSpec], n_train: Callable[[RunSpec], int | None]
) -> dict[str, int]:
    """Multiply epochs, training examples and declared cost of each run, where their number is known.

    `n_train` returns the examples of a run whose task does not declare them. The runs of a selector share
    the references to their entries, so each is looked up once.
    """
    sizes: dict[tuple[int, str], int | None] = {}
    costs: dict[int, float] = {}
    out = {}
    for spec in specs:
        size, cost = (id(spec.task), spec.data), id(spec.optimizer)
        if size not in sizes:
            declared = registry.resolve_task(spec.task).training_examples(spec.data)
            sizes[size] = n_train(spec) if declared is None else declared
        if cost not in costs:
            costs[cost] = declared_cost(registry, spec.optimizer)
        if (n := sizes[size]) is not None:
            out[spec.run_id] = round(spec.epochs * n * costs[cost])
    return out


def arguments(spec: RunSpec, registry: Registry) -> list[str]:
    """Write the options of `steppe run` that give exactly this run.

    A plugin is named by a placeholder, as a spec knows the plugin's hash and not its path.
    """
    task = registry.resolve_task(spec.task)
    optimizer = registry.resolve_optimizer(spec.optimizer)
    out = ["-t", spec.task.label(registry.task(spec.task.name).entry.params)]
    out += ["-o", spec.optimizer.label(optimizer.params)]
    out += ["-s", str(spec.seed), "--data-set", spec.data]
    budget = spec.epochs / task.epochs
    if task.epochs * budget == spec.epochs:
        out += ["--budget", repr(budget)] if budget != 1 else []
    else:  # rounded away: then it was planned by cost
        cost = float(optimizer.cost(spec.optimizer.params))
        by_cost = spec.epochs * cost / task.epochs
        if task.epochs * by_cost / cost == spec.epochs:
            out += ["--view", "sample-gradients", "--budget", repr(by_cost)]
    out += ["--precision", spec.precision] if spec.precision != task.precisions[0] else []
    out += ["--device", spec.device]
    out += ["--threads", str(spec.threads)] if spec.threads != 1 else []
    out += ["--compile"] if spec.compile else []
    out += ["--ranks", str(spec.ranks)] if spec.ranks != 1 else []
    if spec.task.plugin_source is not None or spec.optimizer.plugin_source is not None:
        out += ["--plugin", "FILE"]
    return out
