"""Sharpness measures of a trained model: one file per measure, found by name without importing torch.

A module of this package is a measure if it assigns `MEASURES`, a literal dict from the names of its
estimates to a one-line description, and `VERSION`, a whole number that rises when its numbers change, and
defines `estimate(point) -> dict[str, Estimate]`.
"""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from suite.errors import SteppeError, unknown
from suite.records.schema import Estimate
from suite.sharpness.point import Point, SubsetLoss

__all__ = [
    "MEASURES",
    "VERSIONS",
    "Estimate",
    "Point",
    "SubsetLoss",
    "check_names",
    "measure",
    "subset_loss",
]


class _Found(NamedTuple):
    module: str
    line: str
    version: int


def _find() -> dict[str, _Found]:
    """Find every estimate by name in the source of the modules of this package."""
    found: dict[str, _Found] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        literals = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign) and names in (["MEASURES"], ["VERSION"]):
                literals[names[0]] = ast.literal_eval(node.value)
        if path.name != "__init__.py" and "MEASURES" in literals:
            if "VERSION" not in literals:
                raise SteppeError(f"{path} assigns MEASURES but no VERSION: write `VERSION = 1` below it")
            for name, line in literals["MEASURES"].items():
                found[name] = _Found(path.stem, line, literals["VERSION"])
    return found


_FOUND = _find()

MEASURES: dict[str, str] = {name: one.line for name, one in sorted(_FOUND.items())}
"""One-line description of every measure by name."""

VERSIONS: dict[str, int] = {name: one.version for name, one in sorted(_FOUND.items())}
"""Version of every measure's estimator by name: numbers of different versions are not comparable."""


def check_names(names: Sequence[str]) -> None:
    """Raise SteppeError if a name is not a measure."""
    for name in names:
        if name not in _FOUND:
            raise unknown("measure", name, _FOUND, hint="`steppe list measures` describes them")


def measure(point: Point, names: Sequence[str]) -> dict[str, Estimate]:
    """Estimate the named measures at `point`, in the given order; the model does not change, bit for bit.

    Computes in the model's own dtype without autocast or tf32. Measures of one module are estimated together,
    once. A measure that fails (a layer without a second derivative, too little memory) has no value and
    states the reason.

    Raises:
        SteppeError: a name that is not a measure.
        ValueError: the model, or a part of it, is in training mode.

    """
    check_names(names)
    from suite.sharpness.evaluation import exact

    estimates: dict[str, Estimate] = {}
    with exact(point):
        for module in dict.fromkeys(_FOUND[name].module for name in names):
            try:
                found = importlib.import_module(f"{__name__}.{module}").estimate(point)
            except RuntimeError as error:  # from torch: a missing second derivative, too little memory
                found = _none(point, module, error)
            estimates |= found
    return {name: _finite(estimates[name]) for name in names}


def _none(point: Point, module: str, error: RuntimeError) -> dict[str, Estimate]:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return {
        name: Estimate(None, None, None, len(point.batch), 0, "none", one.version, reason)
        for name, one in _FOUND.items()
        if one.module == module
    }


def _finite(estimate: Estimate) -> Estimate:
    """Replace numbers that are not finite by None."""
    numbers = {key: getattr(estimate, key) for key in ("value", "se_probes", "se_examples")}
    kept = {key: x if x is not None and math.isfinite(x) else None for key, x in numbers.items()}
    reason = estimate.reason or ("" if kept["value"] is not None else "it is not finite")
    return msgspec.structs.replace(estimate, **kept, reason=reason)


def subset_loss(point: Point) -> SubsetLoss:
    """Return the loss and the scores at `point` on the examples that the measures use."""
    from suite.sharpness.evaluation import exact, subset_metrics

    with exact(point):
        return subset_metrics(point)
