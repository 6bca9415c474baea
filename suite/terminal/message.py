"""Messages to the user on standard error."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """Print a line; ignore a closed stream. Standard output is reserved for --json."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
