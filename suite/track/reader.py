"""Reads wandb's offline files, to verify what is on disk.

The file is a LevelDB log: a header of 7 bytes, then blocks of 32 KiB of chunks. A chunk has a header of
checksum (4 bytes), length (2) and kind (1: whole, 2: first, 3: middle, 4: last of a record); a record is a
`Record` of wandb's protocol buffers. Reading ends at a truncated tail, left by a kill.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD, _START = 32768, 7, 7
_WHOLE, _LAST = 1, 4


def is_whole(path: Path, steps: list[int]) -> bool:
    """Whether a .wandb file contains the run's end and exactly these steps, in order."""
    stored, ended = [], False
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            stored.append(values(record.history.item)["step"])
        ended |= kind == "exit"
    return ended and stored == steps


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file up to its end or a truncated tail."""
    from wandb.proto import wandb_internal_pb2

    new_record: Any = wandb_internal_pb2.__dict__["Record"]  # created at import, unknown to type checkers
    for raw in _raw_records(path.read_bytes()):
        record = new_record()
        record.ParseFromString(raw)
        yield record


def values(items: Any) -> dict[str, Any]:
    """Return the items of a row or of a summary by name."""
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _raw_records(data: bytes) -> Iterator[bytes]:
    at, record = _START, b""
    while at + _HEAD <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD:  # padding
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        chunk = data[at + _HEAD : at + _HEAD + length]
        if kind == 0 or len(chunk) < length:
            return
        record += chunk
        at += _HEAD + length
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""
