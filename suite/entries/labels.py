"""Labels of a run's entries: the selector of an entry, without parameters at their defaults."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from suite.errors import SteppeError
from suite.spec import EntryRef, Param


def entry_label(ref: EntryRef, declared: Mapping[str, Param] | None) -> str:
    """Return an entry's name and non-default parameters; all parameters if it now declares other ones."""
    if declared is not None and declared.keys() == ref.params.keys():
        with contextlib.suppress(SteppeError):  # a value that the entry no longer accepts
            return ref.label(declared)
    return ref.label()
