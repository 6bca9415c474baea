"""Learning-rate schedules as pure functions of the step, shared by all optimizer entries.

Protocol `fair`: linear warm-up over 5 % of the steps, then cosine to zero, unless the entry sets otherwise.
A schedule stretches with its budget (rule 3): it depends only on the completed fraction of the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from suite.spec import Param

SHARED: dict[str, Param] = {
    "schedule": Param(
        "cosine",
        "after warm-up: cosine to zero, constant, or step (x 0.1 at 50 % and at 75 % of the run)",
        choices=("cosine", "constant", "step"),
    ),
    "warmup": Param(
        0.05,
        "fraction of the steps over which the learning rate rises linearly",
        low=0,
        high=1,
        high_open=True,
    ),
}
"""Parameters that every optimizer entry declares in addition to its own."""

STEP_MILESTONES = (0.5, 0.75)
STEP_DECAY = 0.1


def lr_factor(hyper: Mapping[str, Any], step: int, total_steps: int) -> float:
    """Return the factor of the initial learning rate at `step`, 0-based, of `total_steps` T.

    With W = round(warmup * T) steps of warm-up:

        step < W:   (step + 1) / (W + 1)
        cosine:     (1 + cos(pi * (step - W) / (T - W))) / 2       1 at step W, 0 after the last step
        constant:   1
        step:       0.1 ** (number of milestones m in (0.5, 0.75) with step >= m * T)

    >>> hyper = {"schedule": "cosine", "warmup": 0.5}
    >>> [round(lr_factor(hyper, step, total_steps=8), 3) for step in range(8)]
    [0.2, 0.4, 0.6, 0.8, 1.0, 0.854, 0.5, 0.146]
    """
    warmup_steps: int = round(hyper["warmup"] * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if hyper["schedule"] == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps)))
    if hyper["schedule"] == "step":
        return math.prod(STEP_DECAY for milestone in STEP_MILESTONES if step >= milestone * total_steps)
    return 1.0
