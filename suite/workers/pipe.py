"""Lines over a pipe or a socket: how processes of the suite send each other JSON."""

from __future__ import annotations

import os
import socket
import sys
from typing import IO, Any


class Lines:
    """Reads the lines that arrive at one end; `select` takes it as it takes a file."""

    def __init__(self, end: IO[Any] | socket.socket) -> None:
        self._end = end
        self._rest = b""

    def fileno(self) -> int:
        """Return the descriptor of the end."""
        return self._end.fileno()

    def read(self) -> list[bytes] | None:
        """Return the lines that have arrived, None at the end; waits where nothing has arrived at all."""
        try:
            chunk = os.read(self.fileno(), 1 << 16)
        except OSError:  # a connection that was cut
            chunk = b""
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return lines


def reserve_stdout() -> int:
    """Return a descriptor of the real stdout for messages; all that is printed goes to stderr from now on."""
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return private
