"""The one exception that users see: a single line that says what, where, the choices and a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SteppeError(Exception):
    """A mistake in what the user gave us; the CLI prints it as one line and exits with code 2."""


class RankLostError(SteppeError):
    """Another process of the run ended, or cannot be reached."""


def unknown(kind: str, name: str, choices: Iterable[str], hint: str = "") -> SteppeError:
    """Error for a name that is not among `choices`: nearest match first, then every valid choice."""
    valid = sorted(choices)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    match = f"; did you mean {near[0]!r}?" if near else "."
    listing = ", ".join(valid) if valid else "none"
    tail = f" ({hint})" if hint else ""
    return SteppeError(f"unknown {kind} {name!r}{match} Valid: {listing}{tail}")
