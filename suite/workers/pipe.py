"""Messages between processes of the suite: JSON objects, one per line, through a pipe or a socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any


class Messages:
    """Reader of messages; `select` accepts it like a file."""

    def __init__(self, source: IO[Any] | socket.socket) -> None:
        self._source = source
        self._partial = b""

    def fileno(self) -> int:
        """Return the file descriptor of the source."""
        return self._source.fileno()

    def read(self) -> list[dict[str, Any]] | None:
        """Return the messages that have arrived, None at the end of the stream; block if there is no data."""
        try:
            chunk = os.read(self.fileno(), 1 << 16)
        except OSError:  # a connection that was cut
            chunk = b""
        if not chunk:
            return None
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield messages as they arrive, up to the end."""
        while (messages := self.read()) is not None:
            yield from messages


def reserve_stdout() -> Callable[[Mapping[str, Any]], None]:
    """Reserve stdout for messages and return the function that writes one; redirect all prints to stderr.

    The function ignores a closed reader: the caller detects it by the end of stdin or by a change of parent.
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
