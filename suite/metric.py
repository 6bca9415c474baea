"""What results are: named numbers with a direction, a unit and a scale. Loads no torch."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z")]
"""A name that is part of a column's name: lower-case words joined by underscores."""

Better = Literal["higher", "lower", "neither"]
"""Direction of a metric; `neither` is shown and never compared."""

Scale = Literal["linear", "log"]

PERCENT = "%"
"""Unit of a fraction: 0.5 is shown as 50 %."""


class Metric(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A number that evaluation gives for a split, or a fact of a whole run.

    On scale `log`, means, intervals, tests and the margin are of log10 of the values; a value of at most
    `floor`, zero included, counts as `floor`, the smallest value that the metric resolves.
    """

    name: Name
    better: Better
    unit: str = ""
    """`PERCENT` for fractions, else a text that stands behind the number."""
    scale: Scale = "linear"
    margin: float | None = None
    """Largest difference that is of no interest (log: in decades); without one, no tie is ever claimed."""
    floor: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the fields do not fit each other."""
        where = f"metric {self.name}"
        if not re.fullmatch("[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"{where}: a name is lower-case words joined by underscores")
        for what, value, valid in (("better", self.better, Better), ("scale", self.scale, Scale)):
            if value not in get_args(valid):
                raise ValueError(f"{where}: {what} is {value!r}; valid: {', '.join(get_args(valid))}")
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise ValueError(
                f"{where}: margin is {self.margin}; valid: a number above 0, or None for no ties"
            )
        if self.margin is not None and self.better == "neither":
            raise ValueError(f"{where}: it has a margin but no direction; say better='higher' or 'lower'")
        if (self.scale == "log") != (self.floor is not None):
            raise ValueError(f"{where}: scale 'log' and floor, the smallest value resolved, go together")
        if self.floor is not None and not 0 < self.floor < math.inf:
            raise ValueError(f"{where}: floor is {self.floor}; valid: a number above 0")

    def on_scale(self, value: float) -> float:
        """Return what means, intervals and tests are of: the value, or log10 of it or of the floor."""
        if self.scale == "linear":
            return value
        assert self.floor is not None
        return math.log10(max(value, self.floor))

    def at_floor(self, value: float) -> bool:
        """Whether the value is too small to be resolved."""
        return self.floor is not None and value <= self.floor


LOSS = Metric("loss", "lower")
ACCURACY = Metric("accuracy", "higher", PERCENT, margin=0.005)


class Profile(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A curve as a result of a run, for instance the loss between its initial and its final weights."""

    name: Name
    along: str
    """What the horizontal axis is."""
    metric: Metric
    """What the vertical axis is."""


class Description(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """What a record says of its own task, so that reports need nobody else to understand it."""

    tier: Literal["smoke", "small", "full"]
    epochs: float
    """The task's budget."""
    metrics: Annotated[tuple[Metric, ...], Meta(min_length=1)]
    """The first is primary: what rows are compared by."""
    tests: tuple[Name, ...] = ("test",)
    """Splits that are read once, after training."""
    validation: str = "validation"
    """The split that selection may see; empty where there is none."""
    extras: tuple[Name, ...] = ()
    """Further splits that are evaluated after training, and of which nothing is selected."""
    facts: tuple[Metric, ...] = ()
    """Numbers of the whole run."""
    columns: tuple[Metric, ...] = ()
    """Columns that the task adds to the rows of its epochs."""
    profiles: tuple[Profile, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to compare, or one name has two meanings."""
        if not self.metrics:
            raise ValueError("metrics: there is none; valid: one or more, the first of which is compared")
        if not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs is {self.epochs:g}; valid: a number above 0")
        for what, names in (
            ("splits", ("train", *self.tests, *self.extras, *([self.validation] if self.validation else []))),
            ("metrics", [metric.name for metric in self.metrics]),
            ("facts", [metric.name for metric in self.facts]),
            ("columns", [metric.name for metric in self.columns]),
            ("profiles", [profile.name for profile in self.profiles]),
        ):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            if twice:
                raise ValueError(
                    f"{what}: the name {twice[0]!r} stands twice ('train' is the training split)"
                )
        if self.primary.better == "neither":
            raise ValueError(f"metrics: the first, {self.primary.name}, is compared and needs a direction")

    @property
    def primary(self) -> Metric:
        """The metric that rows are compared by."""
        return self.metrics[0]

    @property
    def scored(self) -> str:
        """The split that rows are compared on: the first test split, else validation, else training."""
        return self.tests[0] if self.tests else self.validation or "train"

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Splits that are evaluated after training, in the order of the record."""
        splits = (*self.tests, *([self.validation] if self.validation else []), *self.extras)
        return splits or ("train",)
