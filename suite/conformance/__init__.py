"""The conformance battery for optimizers and tasks: one check per promise, with a one-line message.

Promises are judged in isolation where possible (the battery zeroes gradients and seeds the global generator
itself, unless a promise is about these), so that one mistake breaks one promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from suite.conformance.optimizers import averages, conduct, method
from suite.conformance.optimizers.trial import OptimizerCase
from suite.conformance.promise import Check, Promise, judge
from suite.conformance.tasks import data, form, loss, model, scoring
from suite.conformance.tasks.case import TaskCase
from suite.entries.registry import Found
from suite.problems.image_task import ImageTask
from suite.space import Value
from suite.spec import OptimizerSpec
from suite.task import TaskSpec

__all__ = ["Check", "check_optimizer", "check_task"]

OPTIMIZERS: list[Promise[OptimizerCase]] = [
    Promise("is well formed", method.well_formed, needed=True),
    Promise("builds a torch optimizer", method.builds, needed=True),
    Promise("takes a step", method.takes_a_step, needed=True),
    Promise("is deterministic", method.deterministic, needed=True),
    Promise("goes downhill", method.descends),
    Promise("costs what it declares", method.cost),
    Promise("declares its needs", method.needs),
    Promise("declares its perturbation", method.perturbation),
    Promise("equals its base at zero", method.zero),
    Promise("evaluates the weights that it means", averages.evaluates),
    Promise("counts a batch once in BatchNorm", conduct.counts_once),
    Promise("resumes exactly", conduct.resumes),
    Promise("has a weights-only checkpoint", conduct.weights_only),
    Promise("restores the weights", conduct.restores),
    Promise("draws only its own noise", conduct.own_noise),
    Promise("zeroes gradients itself", conduct.zeroes_gradients),
    Promise("reads lr at each step", conduct.reads_lr),
    Promise("works with channels_last", conduct.channels_last),
]

TASKS: list[Promise[TaskCase]] = [
    Promise("initialises from the init stream only", model.initialises, needed=True),
    Promise("gives logits", model.logits, needed=True),
    Promise("starts with finite numbers", model.starts, needed=True),
    Promise("calls its model", model.calls),
    Promise("names its last layer", model.head),
    Promise("gives deterministic batches", data.batches),
    Promise("gives fixed examples to evaluate", data.fixed),
    Promise("has the sizes that it declares", data.sizes),
    Promise("leaves the test splits alone", data.sealed),
    Promise("keeps its splits apart", data.apart),
    Promise("takes the last mini-batch", model.last_batch),
    Promise("adds up over slices", loss.adds_up),
    Promise("sums its losses to its loss", loss.sums),
    Promise("gives the scores that it names", scoring.scores),
    Promise("evaluates what it declares", scoring.evaluates),
    Promise("concludes what it declares", scoring.concludes),
    Promise("runs in its precisions", loss.precisions),
    Promise("can be differentiated twice", loss.second_derivatives),
]

IMAGES: list[Promise[TaskCase]] = [
    Promise("starts at the loss of a blind guess", form.first_loss),
    Promise("splits without overlap", form.split),
    Promise("leaves test labels alone", form.test_labels),
    Promise("corrupts labels as declared", form.label_noise),
    Promise("finds its data whole", form.finds_data),
]
"""Additional promises of an `ImageTask`. All but the last are judged on fake images."""


def check_optimizer(found: Found, overrides: Mapping[str, Value | str] | None = None) -> list[Check]:
    """Run the battery on an optimizer entry, at its defaults or with some parameters overridden.

    The problems are synthetic. If the entry is malformed, cannot step or is not deterministic, the other
    promises are not judged. An entry without `zero` is not compared with a base optimizer.
    """
    entry = found.entry
    assert isinstance(entry, OptimizerSpec)
    promises = [promise for promise in OPTIMIZERS if promise.faults is not method.zero or entry.zero]
    return judge(OptimizerCase(found, entry, dict(overrides or {})), promises)


def check_task(
    found: Found,
    data_root: Path | None,
    overrides: Mapping[str, Value | str] | None = None,
    cache: Path | None = None,
    data_name: str = "",
) -> list[Check]:
    """Run the battery on a task entry.

    The battery reads the data set (`data_name`, or the first available one) to verify it; the folder `cache`
    keeps decoded data. An `ImageTask` is judged on fake images, so its data may be missing. Any other task is
    judged on its own data.
    """
    assert isinstance(found.entry, TaskSpec)
    case = TaskCase(found.entry, dict(overrides or {}), data_root, cache, data_name)
    return judge(case, _of_task(case))


def _of_task(case: TaskCase) -> Iterator[Promise[TaskCase]]:
    yield Promise("is well formed", form.well_formed, needed=True)
    if isinstance(case.task, ImageTask):
        yield from (*TASKS, *IMAGES)
    else:
        yield Promise("finds its data", form.finds_data, needed=True)
        yield from TASKS
