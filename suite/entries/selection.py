"""Selection of runs: tasks, optimizers, seeds and the other settings of their specs."""

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
"""Quantity that is equal for all optimizers: passes over the data, or cost (protocol rule 2)."""


@dataclass(frozen=True)
class Selection:
    """The selectors and settings that define a set of runs."""

    tasks: Sequence[str]
    """Selectors of tasks, as typed."""
    optimizers: Sequence[str]
    """Selectors of optimizers, as typed."""
    seeds: Sequence[int]
    _: KW_ONLY
    budget: float = 1.0
    """Multiple of the task's budget, above 0."""
    view: str = "epochs"
    """One of `VIEWS`."""
    precision: str = ""
    """One of `suite.spec.PRECISIONS`; empty for the default of each task."""
    device: str = "cpu"
    """Device kind, `cpu` or `cuda`."""
    threads: int = 1
    """CPU threads per process."""
    compile: bool = False
    ranks: int = 1
    """Number of processes that share each mini-batch."""
    data_root: Path | None = None
    """Folder of the data sets; None if they need no folder."""
    data_name: str = ""
    """Name of one data set of the task; empty for the first that is available."""

    def expand(self, registry: Registry) -> list[RunSpec]:
        """Return the runs, each once, ordered by task, then seed, then optimizer.

        Seeds come before optimizers so that an unfinished sweep still compares all optimizers on the seeds
        that are finished. A run has task.epochs * budget epochs, divided by the optimizer's declared cost
        in the sample-gradients view (protocol rules 2 and 3).

        Raises:
            SteppeError: a name, parameter or value is unknown, or data are missing.

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
    """Return the entry's declared cost at these hyperparameters, in sample-gradients per example and step."""
    return cost_of(registry.resolve_optimizer(reference), reference.params)


def sample_gradients(
    registry: Registry, specs: Collection[RunSpec], n_train: Callable[[RunSpec], int | None]
) -> dict[str, int]:
    """Return epochs * training examples * declared cost by run id, for runs of known training-set size.

    `n_train` returns the number of training examples of a run if its task does not declare it. The runs of
    a selector share the references to their entries, so each reference is looked up once.
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
    """Return the options of `steppe run` that give exactly this run.

    A placeholder stands for the file of a plugin, because a spec holds the plugin's hash but not its path.
    """
    task = registry.resolve_task(spec.task)
    optimizer = registry.resolve_optimizer(spec.optimizer)
    out = ["-t", spec.task.label(registry.task(spec.task.name).entry.params)]
    out += ["-o", spec.optimizer.label(optimizer.params)]
    out += ["-s", str(spec.seed), "--data-set", spec.data]
    budget = spec.epochs / task.epochs
    if task.epochs * budget == spec.epochs:
        out += ["--budget", repr(budget)] if budget != 1 else []
    else:  # not the same epochs after rounding: the view was sample-gradients
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
