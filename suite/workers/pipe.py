"""Messages between processes of the suite: JSON objects, one a line of a pipe or a socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any


class Messages:
    """Reads the messages that arrive at one end; `select` takes it as it takes a file."""

    def __init__(self, end: IO[Any] | socket.socket) -> None:
        self._end = end
        self._rest = b""

    def fileno(self) -> int:
        """Return the descriptor of the end."""
        return self._end.fileno()

    def read(self) -> list[dict[str, Any]] | None:
        """Return what has arrived, None at the end; waits where nothing has arrived at all."""
        try:
            chunk = os.read(self.fileno(), 1 << 16)
        except OSError:  # a connection that was cut
            chunk = b""
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield messages as they arrive, up to the end."""
        while (messages := self.read()) is not None:
            yield from messages


def reserve_stdout() -> Callable[[Mapping[str, Any]], None]:
    """Keep the real stdout for messages, and return what writes one; all that is printed goes to stderr.

    A reader that died is noticed otherwise: by the end of stdin, or by the change of the parent.
    """
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def emit(message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(private, line) :]

    return emit
