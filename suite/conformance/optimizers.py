"""The promises of an optimizer entry, in the order in which they are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from suite.conformance import averages, conduct, form, maths
from suite.conformance.case import Case
from suite.conformance.check import Check, judge_all
from suite.entries.registry import Found
from suite.space import Value
from suite.spec import OptimizerSpec

PROMISES: dict[str, Callable[[Case], str]] = {
    "is well formed": form.well_formed,
    "builds a torch optimizer": form.builds,
    "takes a step": form.takes_a_step,
    "is deterministic": form.deterministic,
    "goes downhill": maths.descends,
    "costs what it declares": maths.cost,
    "declares its needs": maths.needs,
    "declares its perturbation": maths.perturbation,
    "equals its base at zero": maths.zero,
    "evaluates the weights that it means": averages.evaluates,
    "counts a batch once in BatchNorm": conduct.counts_once,
    "resumes exactly": conduct.resumes,
    "has a weights-only checkpoint": conduct.weights_only,
    "restores the weights": conduct.restores,
    "draws only its own noise": conduct.own_noise,
    "zeroes gradients itself": conduct.zeroes_gradients,
    "reads lr at each step": conduct.reads_lr,
    "works with channels_last": conduct.channels_last,
}

NEEDED = 4
"""The first promises, up to determinism, without which the others cannot be judged."""


def check_optimizer(found: Found, overrides: Mapping[str, Value | str] | None = None) -> list[Check]:
    """Put an optimizer entry through the battery, at its defaults or with some parameters overridden.

    Runs on one CPU thread on problems made on the spot, and leaves torch's generator and thread count as
    it found them. Where an entry is malformed, cannot step or is not deterministic, the rest is not judged;
    an entry without `zero` has no base to equal.
    """
    assert isinstance(found.entry, OptimizerSpec)
    case = Case(found, found.entry, dict(overrides or {}))
    asked = {name: test for name, test in PROMISES.items() if test is not maths.zero or found.entry.zero}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return judge_all([(name, partial(test, case)) for name, test in asked.items()], NEEDED)
    finally:
        torch.set_num_threads(threads)
