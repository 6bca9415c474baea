"""Reads wandb's offline file back: what is on the disk, not what wandb said that it wrote.

The file is a LevelDB log: after a header of 7 bytes, blocks of 32 KiB hold chunks, each headed by a
checksum (4 bytes), a length (2) and a kind (1: whole, 2: first, 3: middle, 4: last of a record); a record is
a `Record` of wandb's protocol buffers. A tail torn off by a kill ends the reading.
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
    """Whether the run of a .wandb file was ended and holds just these steps, each once and in order."""
    found, ended = [], False
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            found.append(values(record.history.item)["step"])
        ended |= kind == "exit"
    return ended and found == steps


def records(path: Path) -> Iterator[Any]:
    """Read a .wandb file up to its end or to where it is torn."""
    from wandb.proto import wandb_internal_pb2

    new_record: Any = wandb_internal_pb2.__dict__["Record"]  # made at import, so that no checker sees it
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
        if left < _HEAD:  # too small for a head: padding
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
