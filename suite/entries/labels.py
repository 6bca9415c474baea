"""Labels of the entries of a run: the selector that gives an entry, without what its defaults say already."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from suite.errors import SteppeError
from suite.spec import EntryRef, Param


def entry_label(ref: EntryRef, declared: Mapping[str, Param] | None) -> str:
    """Name an entry and the parameters that differ from the defaults; all if it declares others now."""
    if declared is not None and declared.keys() == ref.params.keys():
        with contextlib.suppress(SteppeError):  # a value that it does not take now
            return ref.label(declared)
    return ref.label()
