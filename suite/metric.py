"""Metrics: named numbers with a direction, a unit and a scale. Loads no torch."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z")]
"""A name used in column names: lower-case words joined by underscores."""

Better = Literal["higher", "lower", "neither"]
"""Direction of a metric; a metric with `neither` is shown and never compared."""

Scale = Literal["linear", "log"]

PERCENT = "%"
"""Unit of a fraction: 0.5 is shown as 50 %."""


class Metric(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A number that results from the evaluation of a split, or a fact about a whole run.

    On scale `log`, means, intervals, tests and the margin refer to log10 of the values. Values up to `floor`,
    zero included, count as `floor`, the smallest value that the metric resolves.
    """

    name: Name
    better: Better
    unit: str = ""
    """`PERCENT` for fractions, else a text shown after the number."""
    scale: Scale = "linear"
    margin: float | None = None
    """Largest difference that does not matter (log: in decades); without a margin no tie is declared."""
    floor: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if the fields are inconsistent."""
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
        """Return the value on the metric's scale: the value itself, or log10(max(value, floor)).

        >>> residual = Metric("residual", "lower", scale="log", floor=1e-6)
        >>> residual.on_scale(0.001), residual.on_scale(0.0)
        (-3.0, -6.0)
        """
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
    """A curve that results from a run, for instance the loss between its initial and its final weights."""

    name: Name
    along: str
    """Label of the horizontal axis."""
    metric: Metric
    """Metric of the vertical axis."""


class Description(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A record's description of its own task, so that reports need no other source to interpret it."""

    tier: Literal["smoke", "small", "full"]
    epochs: float
    """The task's budget."""
    metrics: Annotated[tuple[Metric, ...], Meta(min_length=1)]
    """The first is primary: rows are compared by it."""
    tests: tuple[Name, ...] = ("test",)
    """Splits that are read once, after training."""
    validation: str = "validation"
    """The split available to model selection; empty if the task has none."""
    extras: tuple[Name, ...] = ()
    """Further splits that are evaluated after training and never used for selection."""
    facts: tuple[Metric, ...] = ()
    """Numbers about the whole run."""
    columns: tuple[Metric, ...] = ()
    """Columns that the task adds to the row of each epoch."""
    profiles: tuple[Profile, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if the primary metric cannot be compared, or a name has two meanings."""
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
        """The metric by which rows are compared."""
        return self.metrics[0]

    @property
    def scored(self) -> str:
        """The split on which rows are compared: the first test split, else validation, else training."""
        return self.tests[0] if self.tests else self.validation or "train"

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Splits that are evaluated after training, in the order of the record."""
        splits = (*self.tests, *([self.validation] if self.validation else []), *self.extras)
        return splits or ("train",)
