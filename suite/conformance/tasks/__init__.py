"""The promises of a task entry, at its defaults or with some parameters overridden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from suite.conformance.check import Check, judge, judge_all
from suite.conformance.tasks import abilities, data, evaluation, form, images, loss, model
from suite.conformance.tasks.case import TaskCase
from suite.entries.registry import Found
from suite.problems.image_task import ImageTask
from suite.space import Value
from suite.task import TaskSpec

Promises = dict[str, Callable[[TaskCase], str]]

PROMISES: Promises = {
    "initialises from the init stream only": model.initialises,
    "gives logits": model.logits,
    "starts with finite numbers": model.starts,
    "calls its model": model.calls,
    "names its last layer": model.head,
    "gives deterministic batches": data.batches,
    "gives fixed examples to evaluate": data.fixed,
    "has the sizes that it declares": data.sizes,
    "leaves the test splits alone": data.sealed,
    "keeps its splits apart": data.apart,
    "takes the last mini-batch": model.last_batch,
    "adds up over slices": loss.adds_up,
    "sums its losses to its loss": loss.sums,
    "gives the scores that it names": evaluation.scores,
    "evaluates what it declares": evaluation.evaluates,
    "concludes what it declares": evaluation.concludes,
    "runs in its precisions": abilities.precisions,
    "can be differentiated twice": abilities.function,
}

IMAGES: Promises = {
    "starts at the loss of a blind guess": images.first_loss,
    "splits without overlap": images.split,
    "leaves test labels alone": images.test_labels,
    "spoils labels as declared": images.label_noise,
    "finds its data whole": form.finds_data,
}
"""Further promises of an `ImageTask`. All but the last are judged on images made on the spot."""

NEEDED = "starts with finite numbers"
"""The last of the promises without which the others cannot be judged."""


def check_task(
    found: Found,
    data_root: Path | None,
    overrides: Mapping[str, Value | str] | None = None,
    cache: Path | None = None,
    data_name: str = "",
) -> list[Check]:
    """Put a task entry through the battery.

    The data (the set named, or the first available) are read to see that they are whole; `cache`, a folder,
    keeps them decoded. What has to do with images is judged on a stand-in, so that a task of images is judged
    without its data, too; any other task is judged on its data alone. Computes on one CPU thread.
    """
    assert isinstance(found.entry, TaskSpec)
    case = TaskCase(found.entry, dict(overrides or {}), data_root, cache, data_name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            first = judge(("is well formed", partial(form.well_formed, case)))
            if not first.ok:
                return [first]
            of_images = isinstance(case.task, ImageTask)
            asked = {**PROMISES, **IMAGES} if of_images else {"finds its data": form.finds_data, **PROMISES}
            promises = [(name, partial(test, case)) for name, test in asked.items()]
            return [first, *judge_all(promises, needed=list(asked).index(NEEDED) + 1)]
    finally:
        torch.set_num_threads(threads)
