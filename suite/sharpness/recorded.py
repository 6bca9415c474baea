"""Consistency checks of the measures in a record. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator

from suite.records.schema import Sharpness
from suite.sharpness import MEASURES


def contradictions(found: Sharpness) -> Iterator[str]:
    """Yield the contradictions within the measures of a record."""
    for name, estimate in found.measures.items():
        where = f"sharpness.measures.{name}"
        if name not in MEASURES:
            yield f"{where} is no measure; valid: {', '.join(MEASURES)}"
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
    # Means over the same examples, but in float32 and in another order; another machine rounds differently.
    slack = (1e-5 if smooth.origin is None else 1e-3) * max(1.0, abs(smooth.value))
    if abs(smooth.value - rise.value - loss) > slack:
        yield (
            f"sharpness: lpf {smooth.value:g} less lpf_difference {rise.value:g} is not the loss "
            f"{loss:g} of the same examples"
        )
