"""Exceptions for users: each is one line that names the mistake, its place, the valid choices and a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SteppeError(Exception):
    """A mistake in the user's input; the CLI prints it as one line and exits with code 2."""


class RankLostError(SteppeError):
    """Another process of the run ended or cannot be reached."""


def unknown(kind: str, name: str, choices: Iterable[str], hint: str = "") -> SteppeError:
    """Build the error for a name outside `choices`: the closest match, then every valid choice, then `hint`.

    >>> print(unknown("task", "digit-cnn", ["digits-cnn", "cifar10"], hint="see `steppe list`"))
    unknown task 'digit-cnn'; did you mean 'digits-cnn'? Valid: cifar10, digits-cnn (see `steppe list`)
    >>> print(unknown("task", "mnist", []))
    unknown task 'mnist'. Valid: none
    """
    valid = sorted(choices)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    nearest = f"; did you mean {near[0]!r}?" if near else "."
    listing = ", ".join(valid) if valid else "none"
    tail = f" ({hint})" if hint else ""
    return SteppeError(f"unknown {kind} {name!r}{nearest} Valid: {listing}{tail}")
