"""JSON lines: rows that a run writes during training and reads back.

A line is appended by one write, so a kill leaves at most a torn last line. `finite` converts the numbers of a
record; a task that computes results from the rows of its epochs gets the rows as read here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.files import storing, write_whole


def to_line(row: Mapping[str, Any]) -> bytes:
    """Encode a row as a JSON line; NaN and infinity become null, as JSON lacks them."""
    return json.dumps(finite(row), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def finite(value: Any) -> Any:
    """Copy JSON data with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


class LineWriter:
    """Appends JSON lines to a file; this process is its only writer.

    Each line is one write: a kill may leave a torn last line, a failed write leaves nothing.
    """

    def __init__(self, path: Path, head: bytes = b"") -> None:
        """Create or replace the file with the bytes `head` (whole lines)."""
        self.path = path
        write_whole(path, head, flush=bool(head))
        with storing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        self.size = len(head)
        self._hash = hashlib.sha256(head)

    def append(self, row: Mapping[str, Any]) -> None:
        """Append one row; SteppeError if the write fails, which leaves no part of the row."""
        line = to_line(row)
        with storing(self.path):
            try:
                if os.write(self._descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                # Otherwise the next row would be appended to a torn line.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self.size)
                raise
        self.size += len(line)
        self._hash.update(line)

    def mark(self) -> tuple[int, str]:
        """Flush to disk; return the file's size in bytes and SHA-256."""
        with storing(self.path):
            os.fsync(self._descriptor)
        return self.size, self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of JSON lines; torn lines are skipped, a missing file has none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    for line in raw.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # torn by a kill (includes UnicodeDecodeError)
            continue
        if isinstance(row, dict):
            yield row
