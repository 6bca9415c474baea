"""Promises of a task about its data: mini-batches, examples to evaluate and measure on, test splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from itertools import chain, combinations, product, zip_longest
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from suite.batch import Batch
from suite.conformance.check import Broken
from suite.conformance.tasks.case import TaskCase
from suite.data.dataset import Data, Generated, Reader
from suite.problem import Problem, Setting, Splits

WEIGHED = 64
"""Mini-batches of an epoch, at most, whose units are looked at."""


def batches(case: TaskCase) -> str:
    """A mini-batch is a function of the run's seed and the step alone."""
    one, same, other = (case.problem(seed) for seed in (0, 0, 1))
    steps = one.steps_per_epoch
    asked = list(dict.fromkeys((0, steps - 1, steps)))
    first = {}
    for step in asked:
        torch.manual_seed(step)
        first[step] = one.batch(step).digest()
    for step in reversed(asked):  # in another order, with another global generator, and once more
        torch.manual_seed(-step - 1)
        for problem in (same, one):
            if problem.batch(step).digest() != first[step]:
                fields = _differ(one.batch(step), same.batch(step))
                raise Broken(
                    f"two mini-batches of one seed and step {step} differ{fields}: draw from the streams of "
                    "(seed, step) alone, and keep nothing from one call to the next"
                )
    if other.batch(0).digest() == first[0] and case.task.batch_size:
        raise Broken("two seeds give the same first mini-batch: order and augmentation must follow the seed")
    sizes = [len(one.batch(step)) for step in (0, steps - 1)]
    left = one.n_train - (steps - 1) * one.batch_size
    wanted = [min(one.batch_size, one.n_train), left]
    if sizes != wanted:
        raise Broken(
            f"an epoch of {one.n_train} examples in mini-batches of {one.batch_size} begins with one of "
            f"{wanted[0]} and ends with one of {wanted[1]}; these have {sizes[0]} and {sizes[1]}: correct "
            "n_train or batch"
        )
    return f"mini-batches of {sizes[0]}, the last of an epoch of {sizes[1]}"


def fixed(case: TaskCase) -> str:
    """The examples of evaluation and of measures are the same ones for every run, and every time."""
    one, other = case.problem(0), case.problem(1)
    splits = [case.task.validation] if case.task.validation else ["train"]
    for split in splits:
        digests = [
            [batch.digest() for batch in case.evaluated(problem, split)] for problem in (one, one, other)
        ]
        if digests[0] != digests[1]:
            raise Broken(
                f"split {split!r} differs when it is asked for again: no augmentation in batches(split)"
            )
        if digests[0] != digests[2]:
            raise Broken(
                f"split {split!r} differs between two seeds: draw it from the task's own streams, "
                "Streams(TASK_SEED) of suite.seeds"
            )
    n = case.task.measure_examples
    measured = [problem.measured(n).digest() for problem in (one, one, other)]
    if len(set(measured)) > 1:
        raise Broken("measured(n) differs between two calls or seeds: it is fixed, for every run")
    return "the same for every seed"


def sizes(case: TaskCase) -> str:
    """There are as many training examples, measured examples and units as the task says."""
    task, problem = case.task, case.problem()
    if case.judged is not task:  # of images made on the spot: the declared numbers alone
        for data in task.data:
            n = task.training_examples(data.name)
            if n is not None and n < task.measure_examples:
                raise Broken(_too_few(task.measure_examples, n))
        return f"{task.measure_examples} training examples are measured"
    declared = task.n_train
    if declared is not None and declared != problem.n_train:
        raise Broken(f"n_train declares {declared} training examples, the problem has {problem.n_train}")
    measured = problem.measured(task.measure_examples)
    slack = 0 if task.separable else problem.batch_size - 1
    if len(measured) < task.measure_examples - slack:
        raise Broken(_too_few(task.measure_examples, len(measured)))
    if len(measured) > task.measure_examples + slack:
        raise Broken(f"measured({task.measure_examples}) gives {len(measured)} examples: give about n")
    _check_units("measured", measured)
    if problem.batch(0).weight is not None:
        for step in range(min(WEIGHED, problem.steps_per_epoch)):
            _check_units("a mini-batch", problem.batch(step))
    return f"{problem.n_train} training examples, {len(measured)} are measured"


def _check_units(what: str, batch: Batch) -> None:
    if batch.weight is not None and int(batch.weight.min()) < 1:
        raise Broken(f"an example of {what} has {int(batch.weight.min())} units: leave such examples out")


def _too_few(declared: int, n: int) -> str:
    return f"measure_examples is {declared}, but there are {n} training examples: lower it"


def sealed(case: TaskCase) -> str:
    """Mini-batches, validation and measured examples come about without a look at a test split."""
    tests = case.task.tests
    if not tests:
        return "there is no test split"
    touched: set[str] = set()
    plain = _digests(case, case.problem())
    problem = _on(case, _watched(case.data, tests, touched))
    changed = _digests(case, problem)
    read = sorted(touched & set(tests))
    if read:
        raise Broken(
            f"the test split {read[0]!r} is read before training ends: read it in batches({read[0]!r}), "
            "which is called for it after training"
        )
    for what, digest in plain.items():
        if changed[what] != digest:
            raise Broken(
                f"another content of the test split{'s' * (len(tests) > 1)} {', '.join(tests)} changes "
                f"{what}: nothing of a test split may enter training or selection, its mean and scale neither"
            )
    return f"{', '.join(tests)}: not read before training ends, and of no influence"


def apart(case: TaskCase) -> str:
    """No test split is another split over again, and validation is not the training set."""
    task, problem = case.task, case.problem()
    pairs = [*combinations(task.tests, 2), *product(task.tests, ("train", *task.extras))]
    if task.validation:
        pairs += [*product(task.tests, [task.validation]), (task.validation, "train")]
    first = {split: _first(problem, split) for split in dict.fromkeys(chain.from_iterable(pairs))}
    for one, other in pairs:
        if first[one] and first[one] == first[other] and _equal(problem, one, other):
            raise Broken(
                f"splits {one!r} and {other!r} hold the same examples: results on what was trained or "
                "selected on say nothing of new ones; draw them apart"
            )
    return f"{len(first)} splits, each with examples of its own" if pairs else "there is one split only"


def _first(problem: Problem, split: str) -> str:
    """Return the digest of the first batch of a split; nothing of one that is not handed out."""
    try:
        batch = next(iter(problem.batches(split)), None)
    except Exception:  # noqa: BLE001 - a split that is missing breaks another promise, and 'train' need not be
        return ""
    return "" if batch is None else batch.digest()


def _equal(problem: Problem, one: str, other: str) -> bool:
    pairs = zip_longest(problem.batches(one), problem.batches(other))
    return all(a is not None and b is not None and a.digest() == b.digest() for a, b in pairs)


def _digests(case: TaskCase, problem: Problem) -> dict[str, str]:
    torch.manual_seed(0)  # draws from no stream break another promise
    found = {
        "the first mini-batch": problem.batch(0).digest(),
        "the measured examples": problem.measured(case.task.measure_examples).digest(),
    }
    if case.task.validation:
        parts = case.evaluated(problem, case.task.validation)
        found["the validation split"] = " ".join(batch.digest() for batch in parts)
        results = case.evaluation(problem, case.model(problem), case.task.validation)
        found["the evaluation of the validation split"] = repr(dict(results.metrics))
    return found


def noted(case: TaskCase, touched: set[str]) -> Problem:
    """Make the problem as a run has it, its test splits sealed; what it reads is noted by name."""
    return _on(case, _watched(case.data, (), touched), case.task.tests)


def _on(case: TaskCase, data: Data, sealed: Collection[str] = ()) -> Problem:
    """Make the problem on another data set, which its task lists in place of its own."""
    task = dataclasses.replace(case.judged, data=(data,))
    splits = Splits(data, case.data_root, case.cache, sealed)
    made: Problem = task.problem(Setting(task, data, splits, dtype=case.problem().setting.dtype))
    return made


def _watched(data: Data, changed: Collection[str], touched: set[str]) -> Data:
    """Return the data set with some splits changed, which notes by name what is read of it."""
    if not isinstance(data, Generated):
        return cast(Data, _Watched(data, changed, touched))

    def make() -> Mapping[str, Batch]:
        made = data.make()
        return _Noting(
            {split: altered(one) if split in changed else one for split, one in made.items()}, touched
        )

    return dataclasses.replace(data, make=make)


class _Noting(dict[str, Any]):
    """The splits that a function made; those that are looked up are noted."""

    def __init__(self, made: Mapping[str, Any], touched: set[str]) -> None:
        super().__init__(made)
        self._touched = touched

    def __getitem__(self, split: str) -> Any:
        self._touched.add(split)
        return super().__getitem__(split)


class _Watched:
    """A data set of any other kind, whose reader notes what it reads; all else is that of the data set."""

    def __init__(self, data: Data, changed: Collection[str], touched: set[str]) -> None:
        self._data, self._changed, self._touched = data, changed, touched

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """See `Data`."""
        reader = self._data.open(root, cache)

        def read(split: str) -> Any:
            self._touched.add(split)
            return altered(reader(split)) if split in self._changed else reader(split)

        return read


def altered(content: Any) -> Any:
    """Return tensors, or containers of them, with other numbers in the same range, in the same form."""
    if isinstance(content, Batch):
        whole = content.part(0, len(content))
        return Batch(weight=whole.weight, **{name: altered(field) for name, field in whole.fields.items()})
    if isinstance(content, Mapping):
        return {key: altered(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(altered(value) for value in content)
    if not isinstance(content, Tensor) or not content.numel():
        return content
    if content.dtype == torch.bool:
        return ~content
    return content.max() + content.min() - content  # whole numbers stay within what they are indices of


def _differ(one: Batch, other: Batch) -> str:
    """Name the fields in which two mini-batches differ."""
    names = [
        name
        for name in one.part(0, len(one)).fields
        if not torch.equal(getattr(one, name), getattr(other, name))
    ]
    return f" in {', '.join(names)}" if names else ""
