"""Search spaces: the values of a parameter from which tuning chooses, as plain data.

`unit` maps a quantile in [0, 1), for instance a coordinate of a Sobol point, to a value.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

from suite.errors import SteppeError

Value = bool | int | float | str
"""Type of an entry's parameters: JSON scalars, so that a spec has one canonical text."""

ZERO_SHARE = 1 / 8
"""Share of the quantiles that map to 0 in a log-uniform space with `zero`: 1 of the first 8 Sobol points."""


@dataclass(frozen=True)
class LogUniform:
    """Numbers from low to high, uniform in their logarithm; with `zero` also 0."""

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
        """Whether the value is in the space, bounds included."""
        return _is_number(value) and ((self.zero and value == 0) or self.low <= value <= self.high)

    def extremes(self) -> tuple[Value, ...]:
        """Return the extreme values: an interval that contains them contains the space."""
        return (0.0, self.low, self.high) if self.zero else (self.low, self.high)

    def unit(self, u: float) -> float:
        """Return low (high / low)^u at a quantile u in [0, 1).

        With `zero` it is 0 for u below ZERO_SHARE, and the rest of [0, 1) is stretched over the interval.

        >>> [round(LogUniform(0.01, 1.0).unit(u), 6) for u in (0.0, 0.25, 0.5)]
        [0.01, 0.031623, 0.1]
        >>> LogUniform(0.01, 1.0, zero=True).unit(0.1)
        0.0
        """
        u = _quantile(u)
        if self.zero:
            if u < ZERO_SHARE:
                return 0.0
            u = (u - ZERO_SHARE) / (1 - ZERO_SHARE)
        value = self.low * math.exp(u * math.log(self.high / self.low))  # low itself at u = 0
        return min(value, self.high)  # rounding may exceed it


@dataclass(frozen=True)
class Uniform:
    """Numbers from low to high, uniformly distributed."""

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
        """Whether the value is in the space, bounds included."""
        return _is_number(value) and self.low <= value <= self.high

    def extremes(self) -> tuple[Value, ...]:
        """Return the extreme values: an interval that contains them contains the space."""
        return (self.low, self.high)

    def unit(self, u: float) -> float:
        """Return low + u (high - low) at a quantile u in [0, 1).

        >>> Uniform(2, 4).unit(0.25)
        2.5
        """
        return self.low + _quantile(u) * (self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """Discrete values, equally likely, in the order of their quantiles."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not _are_choices(self.values):
            raise SteppeError(
                f"{self!r} is not a search space; valid: at least two different values, each true, false, "
                f"a finite number or a text; for a single value give Param a default and no search"
            )
        object.__setattr__(self, "values", tuple(self.values))  # JSON gives a list

    def __str__(self) -> str:
        return f"one of {', '.join(map(_text, self.values))}"

    def contains(self, value: Value) -> bool:
        """Whether the value is in the space; true and false do not equal 1 and 0."""
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values)

    def extremes(self) -> tuple[Value, ...]:
        """Return all values: they have no order."""
        return self.values

    def unit(self, u: float) -> Value:
        """Return the value at a quantile u in [0, 1): of n values that with index floor(u n).

        >>> Choice(("sgd", "adam", "adamw")).unit(0.5)
        'adam'
        """
        return self.values[math.floor(_quantile(u) * len(self.values))]


Space = LogUniform | Uniform | Choice

KINDS: dict[str, type[Space]] = {"log-uniform": LogUniform, "uniform": Uniform, "choice": Choice}
"""Space classes by the tag that identifies them in plain data."""


def to_dict(space: Space) -> dict[str, Any]:
    """Convert a space to plain JSON data: its kind and its fields.

    >>> to_dict(Uniform(0, 1))
    {'kind': 'uniform', 'low': 0.0, 'high': 1.0}
    """
    kind = next(kind for kind, cls in KINDS.items() if cls is type(space))
    out = {field.name: getattr(space, field.name) for field in fields(space)}
    return {"kind": kind} | {key: list(v) if isinstance(v, tuple) else v for key, v in out.items()}


def from_dict(raw: Mapping[str, Any]) -> Space:
    """Parse the output of `to_dict`; raises SteppeError if it is not a space."""
    try:
        arguments = dict(raw)
        return KINDS[arguments.pop("kind")](**arguments)
    except (LookupError, TypeError, ValueError) as error:
        raise SteppeError(
            f"{raw!r:.80} is not a search space ({type(error).__name__}: {error}); "
            f"valid: the fields of a space and its kind, {', '.join(KINDS)}"
        ) from None


def _is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a number within the range of a float."""
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
    """Convert the bounds to float, so that 1 and 1.0 give one space with one text."""
    object.__setattr__(space, "low", float(space.low))
    object.__setattr__(space, "high", float(space.high))


def _quantile(u: float) -> float:
    if not 0 <= u < 1:
        raise ValueError(f"a quantile lies in [0, 1), and {u} does not")
    return u


def _text(value: Value) -> str:
    """Return a short and exact text: parsing it gives the same number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(float(value))
    return str(value)
