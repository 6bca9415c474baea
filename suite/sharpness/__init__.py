"""Sharpness of a trained model: one measure a file, found by name without importing torch.

A module of this package is a measure if it assigns `MEASURES`, a literal dict from the names of the
estimates that it gives to one line about each, and `VERSION`, a whole number that rises where its numbers
change, and defines `estimate(point) -> dict[str, Estimate]`.
"""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from suite.errors import unknown
from suite.schema import Estimate, Sharpness
from suite.sharpness.point import Point, SubsetLoss

__all__ = [
    "MEASURES",
    "VERSIONS",
    "Estimate",
    "Point",
    "SubsetLoss",
    "check_names",
    "contradictions",
    "measure",
    "modules",
    "subset_loss",
]


class _Found(NamedTuple):
    module: str
    line: str
    version: int


def _find() -> dict[str, _Found]:
    """Find every estimate by name, in the source of the modules here."""
    found: dict[str, _Found] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name == "__init__.py":
            continue
        literals = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign) and names in (["MEASURES"], ["VERSION"]):
                literals[names[0]] = ast.literal_eval(node.value)
        for name, line in literals.get("MEASURES", {}).items():
            found[name] = _Found(path.stem, line, literals["VERSION"])
    return found


_FOUND = _find()

MEASURES: dict[str, str] = {name: one.line for name, one in sorted(_FOUND.items())}
"""Every measure that can be asked for by name, with one line about it."""

VERSIONS: dict[str, int] = {name: one.version for name, one in sorted(_FOUND.items())}
"""The version of each estimator."""


def modules() -> dict[str, str]:
    """Return the module of this package that each measure is estimated in."""
    return {name: one.module for name, one in _FOUND.items()}


def check_names(names: Sequence[str]) -> None:
    """Raise SteppeError for a name that is no measure."""
    for name in names:
        if name not in _FOUND:
            raise unknown("measure", name, _FOUND, mend="`steppe list measures` describes them")


def contradictions(found: Sharpness) -> Iterator[str]:
    """Yield what is false in the measures of a record, as far as they can be held against each other."""
    for name, estimate in found.measures.items():
        where = f"sharpness.measures.{name}"
        if name not in _FOUND:
            yield f"{where} is no measure; valid: {', '.join(sorted(_FOUND))}"
        if (estimate.value is None) != bool(estimate.reason):
            lacks = "no value and no" if estimate.value is None else "a value and a"
            yield f"{where} has {lacks} reason for none"
        if estimate.n != found.n:
            yield f"{where}.n is {estimate.n}, the subset has {found.n} examples"
        for error in ("se_probes", "se_examples"):
            if (size := getattr(estimate, error)) is not None and size < 0:
                yield f"{where}.{error} is {size:g}; valid: at least 0"
    smooth, rise = (found.measures.get(name) for name in ("lpf", "lpf_difference"))
    loss = found.metrics.get("loss")
    if smooth is None or rise is None or smooth.value is None or rise.value is None or loss is None:
        return
    # Means over the same examples, in float32 and in another order; on another machine in other bytes.
    slack = (1e-5 if smooth.origin is None else 1e-3) * max(1.0, abs(smooth.value))
    if abs(smooth.value - rise.value - loss) > slack:
        yield (
            f"sharpness: lpf {smooth.value:g} less lpf_difference {rise.value:g} is not the loss "
            f"{loss:g} of the same examples"
        )


def measure(point: Point, names: Sequence[str]) -> dict[str, Estimate]:
    """Estimate the named measures at `point`, in the order given; the model is left bit for bit as found.

    Computes in the model's own dtype without autocast or tf32. Measures of one module are estimated
    together and once. A measure that cannot be had (a layer without a second derivative, no memory) has no
    value, and says why.

    Raises:
        SteppeError: a name that is no measure.
        ValueError: the model, or a part of it, is in training mode.

    """
    check_names(names)
    from suite.sharpness.evaluation import exact

    estimates: dict[str, Estimate] = {}
    with exact(point):
        for module in dict.fromkeys(_FOUND[name].module for name in names):
            try:
                found = importlib.import_module(f"{__name__}.{module}").estimate(point)
            except RuntimeError as error:  # torch's own, whatever it lacks
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
    """Write None for numbers that are not finite."""
    numbers = {key: getattr(estimate, key) for key in ("value", "se_probes", "se_examples")}
    kept = {key: x if x is not None and math.isfinite(x) else None for key, x in numbers.items()}
    reason = estimate.reason or ("" if kept["value"] is not None else "it is not finite")
    return msgspec.structs.replace(estimate, **kept, reason=reason)


def subset_loss(point: Point) -> SubsetLoss:
    """Return the loss and the scores at `point` on the examples that the measures use."""
    from suite.sharpness.evaluation import exact, subset_metrics

    with exact(point):
        return subset_metrics(point)
