"""Sharpness of a trained model: one measure a file, found by name without importing torch.

A module of this package is a measure if it assigns `MEASURES`, a literal dict from the names of the
estimates that it gives to one line about each, and defines `estimate(point) -> dict[str, Estimate]`.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Sequence
from pathlib import Path

from suite.errors import unknown
from suite.sharpness.point import Estimate, Point, SubsetLoss

__all__ = ["MEASURES", "Estimate", "Point", "SubsetLoss", "check_names", "measure", "subset_loss"]


def _find() -> dict[str, tuple[str, str]]:
    """Estimate name -> (module, one line about it), read from the source of every module here."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name == "__init__.py":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign) and names == ["MEASURES"]:
                lines = ast.literal_eval(node.value)
                found.update({name: (path.stem, line) for name, line in lines.items()})
    return found


_FOUND = _find()

MEASURES: dict[str, str] = {name: line for name, (_, line) in sorted(_FOUND.items())}
"""Every measure that can be asked for by name, with one line about it."""


def check_names(names: Sequence[str]) -> None:
    """Raise SteppeError for a name that is no measure."""
    for name in names:
        if name not in _FOUND:
            raise unknown("measure", name, _FOUND, mend="`steppe list measures` describes them")


def measure(point: Point, names: Sequence[str]) -> dict[str, Estimate]:
    """Estimate the named measures at `point`, in the order given; the model is left bit for bit as found.

    Computes in the model's own dtype without autocast or tf32. Measures of one module are estimated
    together and once.

    Raises:
        SteppeError: a name that is no measure.
        ValueError: the model, or a part of it, is in training mode.

    """
    check_names(names)
    from suite.sharpness.evaluation import exact

    estimates: dict[str, Estimate] = {}
    with exact(point):
        for module in dict.fromkeys(_FOUND[name][0] for name in names):
            estimates |= importlib.import_module(f"{__name__}.{module}").estimate(point)
    return {name: estimates[name] for name in names}


def subset_loss(point: Point) -> SubsetLoss:
    """Mean loss and accuracy at `point` on the examples that the measures use."""
    from suite.sharpness.evaluation import exact, mean_loss

    with exact(point):
        return mean_loss(point)
