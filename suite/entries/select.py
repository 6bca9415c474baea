"""Selectors: what a user types after -t, -o and -s, expanded to fully resolved runs.

A selector is a name or a glob, with overrides in brackets: `sam`, `sam[rho=0.1,adaptive=true]`,
`'*'`, `cifar10-resnet8-5k[width=4|16|64]`. Alternatives `a|b` span a grid. A bare `*`
means the built-in entries only, so that a plugin never changes what `-o '*'` stands for.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite import sharpness
from suite.entries.registry import Found, Registry, match
from suite.errors import SteppeError, unknown
from suite.spec import PRECISIONS, EntryRef, RunSpec, cost_of
from suite.task import check_fit

VIEWS = ("epochs", "sample-gradients")
"""What is held equal between optimizers: passes over the data, or cost (protocol rule 2)."""

_SELECTOR = re.compile(r"([^\[\],=|]+)(?:\[([^\[\]]*)\])?")
_OUTSIDE_BRACKETS = re.compile(r",(?![^\[\]]*\])")


@dataclass(frozen=True)
class Selector:
    """A glob over entry names and, per parameter, the alternatives that replace its default."""

    pattern: str
    overrides: Mapping[str, tuple[str, ...]]

    def grid(self) -> Iterator[dict[str, str]]:
        """Every combination of the alternatives, the last parameter fastest; one empty dict for none."""
        for values in itertools.product(*self.overrides.values()):
            yield dict(zip(self.overrides, values, strict=True))


def parse_selector(text: str) -> Selector:
    """Read one selector, for instance `sam[rho=0.05|0.1,adaptive=true]`; SteppeError where it is not one."""
    found = _SELECTOR.fullmatch(text.strip())
    if found is None:
        raise SteppeError(f"not a selector: {text!r}; write NAME, a glob, or NAME[key=value,key=value|value]")
    pattern, inside = found.group(1).strip(), found.group(2) or ""
    overrides: dict[str, tuple[str, ...]] = {}
    for item in filter(None, (part.strip() for part in inside.split(","))):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        alternatives = tuple(piece.strip() for piece in value.split("|"))
        if not key or not equals or not all(alternatives):
            raise SteppeError(f"not an override: {item!r} in {text!r}; write key=value or key=value|value")
        if key in overrides:
            raise SteppeError(f"{key} is given twice in {text!r}; write {key}=value|value for alternatives")
        overrides[key] = alternatives
    return Selector(pattern, overrides)


def parse_selectors(texts: Sequence[str]) -> list[Selector]:
    """Read the values of a repeated flag; a comma outside brackets separates selectors too."""
    pieces = [piece for text in texts for piece in _OUTSIDE_BRACKETS.split(text)]
    return [parse_selector(piece) for piece in pieces if piece.strip()]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as `0-9,12`, in that order, each once."""
    seeds: dict[int, None] = {}
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", piece)
        if found is None:
            raise SteppeError(f"not seeds: {text!r}; write whole numbers and ranges, for instance 0-9,12")
        low, high = int(found.group(1)), int(found.group(2) or found.group(1))
        if high < low:
            raise SteppeError(f"not seeds: the range {piece.strip()} runs backwards; write {high}-{low}")
        if high - low >= 100_000:
            raise SteppeError(f"not seeds: the range {piece.strip()} is longer than 100000")
        seeds.update(dict.fromkeys(range(low, high + 1)))
    return tuple(seeds)


def select(registry: Registry, kind: str, texts: Sequence[str]) -> list[EntryRef]:
    """Resolve selectors of `kind` ("task" or "optimizer") to references, each once, in the order given."""
    entries = registry.tasks if kind == "task" else registry.optimizers
    references: dict[tuple[str, str], EntryRef] = {}
    for selector in parse_selectors(texts):
        for name in _names(selector.pattern, entries, kind):
            for overrides in selector.grid():
                reference = registry.reference(kind, name, overrides)
                references[name, repr(sorted(reference.params.items()))] = reference
    if not references:
        raise SteppeError(f"no {kind} is selected: name one or more; '*' is every built-in one")
    return list(references.values())


def _names(pattern: str, entries: Mapping[str, Found], kind: str) -> list[str]:
    if pattern == "*":
        return [name for name in entries if not entries[name].plugin]
    return match(pattern, entries, kind)


def expand(
    registry: Registry,
    tasks: Sequence[str],
    optimizers: Sequence[str],
    seeds: Sequence[int],
    *,
    data_root: Path | None = None,
    data_name: str = "",
    budget: float = 1.0,
    view: str = "epochs",
    precision: str = "",
    device: str = "cpu",
    threads: int = 1,
    compile: bool = False,
    ranks: int = 1,
) -> list[RunSpec]:
    """Every run that the selectors span, each once, ordered by task, then seed, then optimizer.

    Seeds come before optimizers so that an unfinished sweep still compares all optimizers on the seeds
    that it reached. A run's epochs are task.epochs * budget, divided by the optimizer's declared
    cost in the view by sample-gradients (protocol rules 2 and 3).

    Args:
        registry: where the entries come from.
        tasks: selectors of tasks, as typed.
        optimizers: selectors of optimizers, as typed.
        seeds: seeds of the runs.
        data_root: folder of the data sets; None where they need none.
        data_name: one data set of the task by name; empty is the first that is available.
        budget: multiple of the task's own budget, above 0.
        view: one of `VIEWS`.
        precision: one of `suite.spec.PRECISIONS`; empty is each task's own.
        device: device kind, `cpu` or `cuda`.
        threads: CPU threads of one process.
        compile: whether the model is compiled.
        ranks: processes that share every mini-batch.

    Raises:
        SteppeError: unknown name, parameter or value; missing data.

    """
    from suite.data.choose import choose_data

    _check(budget, view, precision, device)
    chosen = select(registry, "optimizer", optimizers)
    specs: dict[str, RunSpec] = {}
    for task_ref in select(registry, "task", tasks):
        task = registry.resolve_task(task_ref)
        dataset = choose_data(task, data_root, data_name)
        sharpness.check_names((*task.measures, *task.curve_measures))
        own = precision or task.precisions[0]
        if own == "tf32" and device != "cuda":
            raise SteppeError(
                f"precision tf32 needs a CUDA device, not {device}; valid there: fp32, bf16, fp64"
            )
        for optimizer in chosen:
            entry = registry.resolve_optimizer(optimizer)
            check_fit(task, entry, optimizer.params, ranks, own)
        for seed, optimizer in itertools.product(seeds, chosen):
            epochs = task.epochs * budget
            if view == "sample-gradients":
                epochs /= declared_cost(registry, optimizer)
            spec = RunSpec(
                task=task_ref,
                optimizer=optimizer,
                seed=seed,
                data=dataset.name,
                data_checksum=dataset.source.checksum,
                epochs=float(epochs),
                precision=own,  # type: ignore[arg-type]
                device=device,  # type: ignore[arg-type]
                threads=threads,
                compile=compile,
                ranks=ranks,
            )
            specs[spec.run_id] = spec
    return list(specs.values())


def _check(budget: float, view: str, precision: str, device: str) -> None:
    if not 0 < budget < float("inf"):
        raise SteppeError(f"budget {budget:g} is out of range; valid: (0, inf), times the task's own")
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    if precision and precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)


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
