"""The index of a store: one file to read in place of thousands of records.

It is a cache of the run folders and heals itself: a record without a line (its process was killed in
between), a torn line, a line whose record changed or was deleted are all found by comparing with the
folders, at the price of one `stat` a run. Nothing is lost by deleting it. Records in it are slim: without the
per-example correctness and without the parts of the provenance that no table shows.

Lines are JSON arrays that begin with the CRC-32 of the rest, so that one that is torn, mixed with another by
a network file system, or of another format is passed over:

    [crc,RUN_ID,MODIFIED_NS,SIZE,{record}]            appended: needs no other line
    [crc,"#part",N,VALUE]                             these three go together, see suite.slim
    [crc,"#shape",N,{KEY:PART,...}]
    [crc,"#runs",SHAPE,[RUN_ID,...],[MODIFIED_NS,...],[SIZE,...],[SEED,...],NUMBERS]

NUMBERS is the base64 of little-endian doubles, run after run. Publishing a run appends a line and reads
nothing. A listing that finds many such lines, or many dead ones, writes the file anew with shared shapes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import zlib
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from suite.errors import SteppeError
from suite.files import read_json, write_whole
from suite.slim import Packer, Part, Shape, Slim, no_collection, slim

__all__ = ["Records", "append", "check_record", "load", "read_record", "slim"]

RECORD_VERSION = 1
NAME = "index.jsonl"
_RECORD_MEND = "delete it and give the same `steppe run` again to resume the run from its checkpoint"

_TOGETHER = 1000
"""The most records on a line."""

Stamp = tuple[int, int]
"""Modification time in ns and size in bytes: what tells a record from another in its place."""


class _Entry(NamedTuple):
    stamp: Stamp
    record: Slim
    compact: bool
    """Whether it is on a line with others of its shape."""


class Records(list[Slim]):
    """Slim records in the order of their run ids; `skipped` holds a line for each that could not be read."""

    skipped: tuple[str, ...] = ()


def check_record(record: Mapping[str, Any], run_id: str, path: Path) -> None:
    """Raise the one-line error that names `path` unless this is a whole record of that run."""
    if record.get("record_version") != RECORD_VERSION:
        found = record.get("record_version")
        raise SteppeError(f"{path} has record_version {found!r}, not {RECORD_VERSION}: {_RECORD_MEND}")
    if record.get("run_id") != run_id:
        raise SteppeError(f"{path} belongs to run {record.get('run_id')!r}, not {run_id}: {_RECORD_MEND}")
    if record.get("status") not in ("completed", "failed") or not isinstance(record.get("spec"), dict):
        raise SteppeError(f"{path} is not a whole record (status or spec is missing): {_RECORD_MEND}")


def read_record(run: Path) -> dict[str, Any] | None:
    """Read the record of a run folder, None where it is not done; SteppeError where it is damaged."""
    path = run / "result.json"
    try:
        record = read_json(path, _RECORD_MEND)
    except FileNotFoundError:
        return None
    check_record(record, run.name, path)
    return record


def append(root: Path, run_id: str) -> None:
    """Add the line of a run just published. Failing is harmless: the next listing finds the record."""
    run = root / "runs" / run_id
    with contextlib.suppress(OSError, SteppeError):
        stamp, record = _stamp(run), read_record(run)
        if stamp is not None and record is not None:
            _append_lines(root, [_line(run_id, *stamp, slim(record))])


def load(root: Path) -> Records:
    """Every record of the store, slim; heals the index on the way where the store can be written."""
    with no_collection():
        packer = Packer()
        known, n_listed = _read(root / NAME, packer)
        skipped: list[str] = []
        current: dict[str, _Entry] = {}
        for run_id, stamp in _published(root / "runs"):
            entry = known.get(run_id)
            if entry is None or entry.stamp != stamp:
                try:
                    record = read_record(root / "runs" / run_id)
                    if record is None:  # deleted since it was listed
                        continue
                    entry = _Entry(stamp, packer.pack(slim(record)), compact=False)
                except SteppeError as error:
                    skipped.append(str(error))
                    continue
            current[run_id] = entry
        with contextlib.suppress(OSError, SteppeError):  # a store that cannot be written can still be listed
            _heal(root, known, current, n_listed)
        records = Records(entry.record for entry in current.values())
        records.skipped = tuple(skipped)
        return records


def _heal(root: Path, known: Mapping[str, _Entry], current: Mapping[str, _Entry], n_listed: int) -> None:
    """Append the lines that were missing; write the file anew once too few of its lines are compact."""
    missing = [entry for run_id, entry in current.items() if known.get(run_id) is not entry]
    n_compact = sum(entry.compact for entry in current.values())
    if n_listed + len(missing) - n_compact > max(100, len(current) // 20):
        write_whole(root / NAME, b"".join(_compact(current.values())), flush=False)
    elif missing:
        lines = [_line(one.record.run_id, *one.stamp, dict(one.record)) for one in missing]
        _append_lines(root, lines)


def _read(path: Path, packer: Packer) -> tuple[dict[str, _Entry], int]:
    """Return the newest entry of each run, and the number of all, dead and torn ones too."""
    known: dict[str, _Entry] = {}
    parts: dict[int, Part] = {}
    shapes: dict[int, Shape] = {}
    n_listed = 0
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    listed = list(_entries(_body(line), packer, parts, shapes))
                except (ValueError, TypeError, LookupError):  # torn, foreign, or of a shape that was
                    n_listed += 1
                    continue
                n_listed += len(listed)
                for entry in listed:
                    known[entry.record.run_id] = entry
    except OSError:
        pass
    return known, n_listed


def _entries(
    body: bytes, packer: Packer, parts: dict[int, Part], shapes: dict[int, Shape]
) -> Iterator[_Entry]:
    """Read a line, taking up its part or shape if it has one; an exception where it is none of ours."""
    kind, *rest = json.loads(b"[%s]" % body)
    if kind == "#part":
        parts[rest[0]] = packer.part(json.dumps(rest[1], separators=(",", ":")))
    elif kind == "#shape":
        shapes[rest[0]] = packer.shape({key: parts[at] for key, at in rest[1].items()})
    elif kind == "#runs":
        number, run_ids, modified, sizes, seeds, numbers = rest
        shape, packed = shapes[number], a2b_base64(numbers)
        width = 8 * shape.n_floats
        if len(packed) != width * len(run_ids):
            raise ValueError(number)
        for at, (run_id, *stamp, seed) in enumerate(zip(run_ids, modified, sizes, seeds, strict=True)):
            record = Slim(shape, run_id, seed, packed[at * width : (at + 1) * width])
            yield _Entry((stamp[0], stamp[1]), record, compact=True)
    else:
        modified, size, record = rest
        if record["run_id"] != kind:
            raise ValueError(kind)
        yield _Entry((modified, size), packer.pack(record), compact=False)


def _published(runs: Path) -> Iterator[tuple[str, Stamp]]:
    try:
        names = sorted(name for name in os.listdir(runs) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        stamp = _stamp(f"{runs}/{name}")
        if stamp is not None:
            yield name, stamp


def _stamp(run: Path | str) -> Stamp | None:
    try:
        status = os.stat(f"{run}/result.json")
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _compact(entries: Iterable[_Entry]) -> Iterator[bytes]:
    """Write every entry compactly, each part and shape before its first use."""
    parts: dict[Part, int] = {}
    by_shape: dict[Shape, list[_Entry]] = {}
    for entry in entries:
        by_shape.setdefault(entry.record.shape, []).append(entry)
    for number, (shape, some) in enumerate(by_shape.items()):
        for part in shape.parts.values():
            if part not in parts:
                parts[part] = len(parts)
                yield _line("#part", parts[part], part.value)
        yield _line("#shape", number, {key: parts[part] for key, part in shape.parts.items()})
        for start in range(0, len(some), _TOGETHER):
            together = some[start : start + _TOGETHER]
            records = [entry.record for entry in together]
            yield _line(
                "#runs",
                number,
                [record.run_id for record in records],
                *zip(*(entry.stamp for entry in together), strict=True),
                [record.seed for record in records],
                base64.b64encode(b"".join(record.packed for record in records)).decode(),
            )


def _line(*content: Any) -> bytes:
    body = json.dumps(content, separators=(",", ":"))[1:-1].encode()
    return b"[%d,%s]\n" % (zlib.crc32(body), body)


def _body(line: bytes) -> bytes:
    """Return what follows the checksum of a line; nothing where it is not as it was written."""
    head, _, rest = line.partition(b",")
    body = rest[:-2]
    return body if head == b"[%d" % zlib.crc32(body) and rest[-2:] == b"]\n" else b""


def _append_lines(root: Path, lines: Iterable[bytes]) -> None:
    descriptor = os.open(root / NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + b"".join(lines))
    finally:
        os.close(descriptor)
