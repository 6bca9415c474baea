"""Search spaces: the values of a parameter among which tuning chooses, as data.

`unit` maps a quantile of a space to a value, so that numbers in [0, 1), Sobol's for instance, are trials.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

from suite.errors import SteppeError

Value = bool | int | float | str
"""What a parameter of an entry may be: JSON scalars, so that a spec has one canonical text."""

ZERO_SHARE = 1 / 8
"""The share of the quantiles that give 0 where a log-uniform space has it: 1 of the first 8 Sobol points."""


@dataclass(frozen=True)
class LogUniform:
    """Numbers from low to high, uniform in their logarithm; with `zero` also 0, which has no logarithm."""

    low: float
    high: float
    zero: bool = False

    def __post_init__(self) -> None:
        if not (_increasing(self.low, self.high) and self.low > 0 and math.isfinite(self.high / self.low)):
            raise SteppeError(
                f"{self} is not a search space; valid: numbers 0 < low < high with a finite ratio; "
                f"for 0 as a value of its own give LogUniform(low, high, zero=True)"
            )
        _as_floats(self)

    def __str__(self) -> str:
        zero = "0 or " if self.zero else ""
        return f"{zero}log-uniform [{_text(self.low)}, {_text(self.high)}]"

    def contains(self, value: Value) -> bool:
        """Whether the value is in the space, its ends included."""
        return _is_number(value) and ((self.zero and value == 0) or self.low <= value <= self.high)

    def extremes(self) -> tuple[Value, ...]:
        """Values between which all others lie: an interval that holds these holds the space."""
        return (0.0, self.low, self.high) if self.zero else (self.low, self.high)

    def unit(self, u: float) -> float:
        """Return low (high / low)^u at a quantile u in [0, 1).

        With `zero` it is 0 for u below ZERO_SHARE, and the rest of [0, 1) is stretched over the interval.
        """
        u = _quantile(u)
        if self.zero:
            if u < ZERO_SHARE:
                return 0.0
            u = (u - ZERO_SHARE) / (1 - ZERO_SHARE)
        value = self.low * math.exp(u * math.log(self.high / self.low))  # low itself at u = 0
        return min(value, self.high)  # which rounding may pass


@dataclass(frozen=True)
class Uniform:
    """Numbers from low to high, uniform."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (_increasing(self.low, self.high) and math.isfinite(self.high - self.low)):
            raise SteppeError(
                f"{self} is not a search space; valid: numbers low < high with a finite difference; "
                f"for single values give Choice(values)"
            )
        _as_floats(self)

    def __str__(self) -> str:
        return f"uniform [{_text(self.low)}, {_text(self.high)}]"

    def contains(self, value: Value) -> bool:
        """Whether the value is in the space, its ends included."""
        return _is_number(value) and self.low <= value <= self.high

    def extremes(self) -> tuple[Value, ...]:
        """Values between which all others lie: an interval that holds these holds the space."""
        return (self.low, self.high)

    def unit(self, u: float) -> float:
        """Return low + u (high - low) at a quantile u in [0, 1)."""
        return self.low + _quantile(u) * (self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """Single values, equally likely, in the order of their quantiles."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not _are_choices(self.values):
            raise SteppeError(
                f"{self!r} is not a search space; valid: at least two different values, each true, false, "
                f"a finite number or a text; for a single value give Param a default and no search"
            )
        object.__setattr__(self, "values", tuple(self.values))  # JSON has lists

    def __str__(self) -> str:
        return f"one of {', '.join(map(_text, self.values))}"

    def contains(self, value: Value) -> bool:
        """Whether the value is one of them; true and false are not 1 and 0."""
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values)

    def extremes(self) -> tuple[Value, ...]:
        """Return all values: none stands for another."""
        return self.values

    def unit(self, u: float) -> Value:
        """Return the value at a quantile u in [0, 1), the floor(u n)-th of n."""
        return self.values[math.floor(_quantile(u) * len(self.values))]


Space = LogUniform | Uniform | Choice

KINDS: dict[str, type[Space]] = {"log-uniform": LogUniform, "uniform": Uniform, "choice": Choice}
"""Spaces by the tag that tells them apart as plain data."""


def to_dict(space: Space) -> dict[str, Any]:
    """Plain JSON data: the kind and the fields of a space."""
    kind = next(kind for kind, cls in KINDS.items() if cls is type(space))
    out = {field.name: getattr(space, field.name) for field in fields(space)}
    return {"kind": kind} | {key: list(v) if isinstance(v, tuple) else v for key, v in out.items()}


def from_dict(raw: Mapping[str, Any]) -> Space:
    """Read what `to_dict` wrote; raises SteppeError where it is no space."""
    try:
        arguments = dict(raw)
        return KINDS[arguments.pop("kind")](**arguments)
    except (LookupError, TypeError, ValueError) as error:
        raise SteppeError(
            f"{raw!r:.80} is not a search space ({type(error).__name__}: {error}); "
            f"valid: the fields of a space and its kind, {', '.join(KINDS)}"
        ) from None


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _increasing(low: float, high: float) -> bool:
    return _is_number(low) and _is_number(high) and low < high


def _are_choices(values: object) -> bool:
    return (
        isinstance(values, list | tuple)
        and all(isinstance(value, bool | str) or _is_number(value) for value in values)
        and len(set(values)) == len(values) > 1
    )


def _as_floats(space: LogUniform | Uniform) -> None:
    """Make the bounds floats, as the values between them are: 1 and 1.0 are then one space with one text."""
    object.__setattr__(space, "low", float(space.low))
    object.__setattr__(space, "high", float(space.high))


def _quantile(u: float) -> float:
    if not 0 <= u < 1:
        raise ValueError(f"a quantile lies in [0, 1), and {u} does not")
    return u


def _text(value: Value) -> str:
    """Short, and exact: reading it gives the same number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(float(value))
    return str(value)
