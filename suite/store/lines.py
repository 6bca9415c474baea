"""Rows of numbers as lines of JSON: what a run writes down as it trains, and reads again.

A line is appended by one write, so that a kill leaves, at worst, a torn last line. The numbers of a record go
through `finite`, and a task that concludes from the rows of its epochs gets what is read here.
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
    """One JSON line; what is not finite becomes null, as JSON has no word for it."""
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
    """Appends JSON lines to a file of which this process is the only writer.

    A line is one write: killed in the middle, it leaves a torn last line; refused by the disk, nothing.
    """

    def __init__(self, path: Path, head: bytes = b"") -> None:
        """Start the file anew with the bytes `head` (whole lines)."""
        self.path = path
        write_whole(path, head, flush=bool(head))
        with storing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        self.size = len(head)
        self._hash = hashlib.sha256(head)

    def append(self, row: Mapping[str, Any]) -> None:
        """Append one row; raises SteppeError where the disk refuses, and then leaves no part of it."""
        line = to_line(row)
        with storing(self.path):
            try:
                if os.write(self._descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self.size)
                raise
        self.size += len(line)
        self._hash.update(line)

    def mark(self) -> tuple[int, str]:
        """Flush to the disk; return the size and the SHA-256 of all that was written."""
        with storing(self.path):
            os.fsync(self._descriptor)
        return self.size, self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of JSON lines; torn lines are passed over, a missing file has none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    for line in raw.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # torn by a kill (UnicodeDecodeError is one, too)
            continue
        if isinstance(row, dict):
            yield row
