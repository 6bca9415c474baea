"""Promises of a task about its data: mini-batches, evaluated and measured examples, test splits."""

from __future__ import annotations

from itertools import chain, combinations, product, zip_longest

import torch

from suite.batch import Batch
from suite.conformance.promise import Faults
from suite.conformance.tasks.case import TaskCase
from suite.conformance.tasks.fake_data import ObservedData
from suite.problem import Problem

WEIGHED = 64
"""Maximum number of mini-batches of an epoch whose units are checked."""

_FEW = "measure_examples is {}, but there are {} training examples: lower it"


def batches(case: TaskCase) -> Faults:
    """A mini-batch is a function of the run's seed and the step only."""
    one, same, other = (case.problem(seed) for seed in (0, 0, 1))
    steps = one.steps_per_epoch
    tested = list(dict.fromkeys((0, steps - 1, steps)))
    first = {}
    for step in tested:
        torch.manual_seed(step)
        first[step] = one.batch(step).digest()
    for step in reversed(tested):  # repeated in another order, with another global generator
        torch.manual_seed(-step - 1)
        for problem in (same, one):
            yield problem.batch(step).digest() != first[step] and (
                f"two mini-batches of one seed and step {step} differ"
                f"{_in_fields(one.batch(step), same.batch(step))}: draw from the streams of (seed, step) "
                "alone, and keep nothing from one call to the next"
            )
    if other.batch(0).digest() == first[0] and case.task.batch_size:
        yield "two seeds give the same first mini-batch: order and augmentation must follow the seed"
    sizes = [len(one.batch(step)) for step in (0, steps - 1)]
    wanted = [min(one.batch_size, one.n_train), one.n_train - (steps - 1) * one.batch_size]
    yield sizes != wanted and (
        f"an epoch of {one.n_train} examples in mini-batches of {one.batch_size} begins with one of "
        f"{wanted[0]} and ends with one of {wanted[1]}; these have {sizes[0]} and {sizes[1]}: correct "
        "n_train or batch"
    )
    return f"mini-batches of {sizes[0]}, the last of an epoch of {sizes[1]}"


def _in_fields(one: Batch, other: Batch) -> str:
    """Return the names of the fields in which two mini-batches differ."""
    fields, others = one.part(0, len(one)).fields, other.part(0, len(other)).fields
    names = [name for name, value in fields.items() if not torch.equal(value, others[name])]
    return f" in {', '.join(names)}" if names else ""


def fixed(case: TaskCase) -> Faults:
    """Evaluated and measured examples are the same in every run and every call."""
    one, other = case.problem(0), case.problem(1)
    split = case.task.validation or "train"
    first, again, seeded = (
        [batch.digest() for batch in case.evaluated(problem, split)] for problem in (one, one, other)
    )
    if first != again:
        yield f"split {split!r} differs between two calls: no augmentation in batches(split)"
    yield first != seeded and (
        f"split {split!r} differs between two seeds: draw it from the task's own streams, "
        "Streams(TASK_SEED) of suite.seeds"
    )
    measured = {problem.measured(case.task.measure_examples).digest() for problem in (one, one, other)}
    if len(measured) > 1:
        yield "measured(n) differs between two calls or seeds: it must be the same in every run"
    return "the same for every seed"


def sizes(case: TaskCase) -> Faults:
    """The numbers of training examples, measured examples and units are those that the task declares."""
    task, problem = case.task, case.problem()
    wanted = task.measure_examples
    if case.judged is not task:  # fake images: only the declared numbers can be checked
        for n in (task.training_examples(data.name) for data in task.data):
            yield n is not None and n < wanted and _FEW.format(wanted, n)
        return f"{wanted} training examples are measured"
    if task.n_train is not None and task.n_train != problem.n_train:
        yield f"n_train declares {task.n_train} training examples, the problem has {problem.n_train}"
    measured = problem.measured(wanted)
    slack = 0 if task.separable else problem.batch_size - 1
    yield len(measured) < wanted - slack and _FEW.format(wanted, len(measured))
    if len(measured) > wanted + slack:
        yield f"measured({wanted}) gives {len(measured)} examples: give about n"
    yield _unitless("measured", measured)
    if problem.batch(0).weight is not None:
        for step in range(min(WEIGHED, problem.steps_per_epoch)):
            yield _unitless("a mini-batch", problem.batch(step))
    return f"{problem.n_train} training examples, {len(measured)} are measured"


def _unitless(what: str, batch: Batch) -> str:
    least = 1 if batch.weight is None else int(batch.weight.min())
    return f"an example of {what} has {least} units: leave such examples out" if least < 1 else ""


def sealed(case: TaskCase) -> Faults:
    """Mini-batches, validation and measured examples do not depend on a test split, nor read one."""
    tests = case.task.tests
    if not tests:
        return "there is no test split"
    plain = _digests(case, case.problem())
    data = ObservedData(case.data, changed=tests)
    changed = _digests(case, case.problem(data=data))
    read = sorted(data.read & set(tests))
    yield read and (
        f"the test split {read[0]!r} is read before training ends: read it in batches({read[0]!r}), "
        "which is called for it after training"
    )
    for what, digest in plain.items():
        yield changed[what] != digest and (
            f"another content of the test split{'s' * (len(tests) > 1)} {', '.join(tests)} changes {what}: "
            "nothing of a test split may enter training or selection, its mean and scale neither"
        )
    return f"{', '.join(tests)}: not read before training ends, and of no influence"


def apart(case: TaskCase) -> Faults:
    """No test split equals another split, and validation is not the training set."""
    task, problem = case.task, case.problem()
    pairs = [*combinations(task.tests, 2), *product(task.tests, ("train", *task.extras))]
    if task.validation:
        pairs += [*product(task.tests, [task.validation]), (task.validation, "train")]
    first = {split: _first(problem, split) for split in dict.fromkeys(chain.from_iterable(pairs))}
    for one, other in pairs:
        same = first[one] and first[one] == first[other] and _equal(problem, one, other)
        yield same and (
            f"splits {one!r} and {other!r} hold the same examples: results on what was trained or "
            "selected on say nothing of new ones; draw them apart"
        )
    return f"{len(first)} splits, each with examples of its own" if pairs else "there is one split only"


def _first(problem: Problem, split: str) -> str:
    """Return the digest of the first batch of a split; empty if the problem does not provide the split."""
    try:
        batch = next(iter(problem.batches(split)), None)
    except Exception:  # noqa: BLE001 - another promise covers missing splits, and 'train' is optional
        return ""
    return "" if batch is None else batch.digest()


def _equal(problem: Problem, one: str, other: str) -> bool:
    pairs = zip_longest(problem.batches(one), problem.batches(other))
    return all(a is not None and b is not None and a.digest() == b.digest() for a, b in pairs)


def _digests(case: TaskCase, problem: Problem) -> dict[str, str]:
    torch.manual_seed(0)  # a separate promise covers draws from the global generator
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
