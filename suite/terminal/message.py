"""Lines for a person on standard error."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """Print a line for a person, who may have left; standard output is kept for --json."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
