"""The index of a store: one slim line a record, so that listing reads one file instead of thousands.

It is a cache of the run folders and heals itself: a record without a line (its process was killed in
between), a torn line, a line whose record changed or was deleted are all found by comparing with the
folders, at the price of one `stat` a run. Nothing is lost by deleting it. Slim means without the per-example
correctness and without the parts of the provenance that no table shows.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.files import read_json, write_whole

RECORD_VERSION = 1
NAME = "index.jsonl"
_RECORD_MEND = "delete it and give the same `steppe run` again to resume the run from its checkpoint"
_PROVENANCE = ("fingerprint", "source_tree", "git_commit", "bit_exact", "attempts")

Stamp = tuple[int, int]
"""Modification time in ns and size in bytes: what tells a record from another in its place."""

_Entries = dict[str, tuple[Stamp, dict[str, Any]]]


class Records(list[dict[str, Any]]):
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


def slim(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the part of a record that lists and tables need."""
    out = {key: value for key, value in record.items() if key not in ("correct", "provenance")}
    provenance = record.get("provenance") or {}
    out["provenance"] = {key: provenance[key] for key in _PROVENANCE if key in provenance}
    return out


def append(root: Path, run_id: str) -> None:
    """Add the line of a run just published. Failing is harmless: the next listing finds the record."""
    run = root / "runs" / run_id
    with contextlib.suppress(OSError, SteppeError):
        stamp, record = _stamp(run), read_record(run)
        if stamp is not None and record is not None:
            _append_lines(root, [_line(run_id, stamp, slim(record))])


def load(root: Path) -> Records:
    """Every record of the store, slim; heals the index on the way where the store can be written."""
    known, n_lines = _read(root / NAME)
    skipped: list[str] = []
    current: _Entries = {}
    for run_id, stamp in _published(root / "runs"):
        entry = known.get(run_id)
        if entry is None or entry[0] != stamp:
            try:
                record = read_record(root / "runs" / run_id)
            except SteppeError as error:
                skipped.append(str(error))
                continue
            if record is None:  # deleted since it was listed
                continue
            entry = (stamp, slim(record))
        current[run_id] = entry
    with contextlib.suppress(OSError, SteppeError):  # a store that cannot be written can still be listed
        _heal(root, known, current, n_lines)
    records = Records(record for _, record in current.values())
    records.skipped = tuple(skipped)
    return records


def _heal(root: Path, known: _Entries, current: _Entries, n_lines: int) -> None:
    """Append the lines that were missing; write the file anew once dead lines outnumber the live ones."""
    missing = {run_id: entry for run_id, entry in current.items() if known.get(run_id) is not entry}
    n_dead = n_lines - (len(current) - len(missing))
    if n_dead > max(100, len(current)):
        write_whole(root / NAME, b"".join(_line(run_id, *entry) for run_id, entry in current.items()))
    elif missing:
        _append_lines(root, [_line(run_id, *entry) for run_id, entry in missing.items()])


def _read(path: Path) -> tuple[_Entries, int]:
    """Return the newest entry of each run, and the number of lines, dead and torn ones included."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}, 0
    known: _Entries = {}
    collecting = gc.isenabled()
    gc.disable()  # half of the time would go into looking for cycles among fresh JSON, which has none
    try:
        for line in lines:
            try:
                run_id, modified, size, record = json.loads(line)
            except (ValueError, TypeError):  # torn, or two lines mixed by a network file system
                continue
            if isinstance(run_id, str) and isinstance(record, dict) and record.get("run_id") == run_id:
                known[run_id] = ((modified, size), record)
    finally:
        if collecting:
            gc.enable()
    return known, len(lines)


def _published(runs: Path) -> Iterator[tuple[str, Stamp]]:
    try:
        names = sorted(entry.name for entry in os.scandir(runs) if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        stamp = _stamp(runs / name)
        if stamp is not None:
            yield name, stamp


def _stamp(run: Path) -> Stamp | None:
    try:
        status = os.stat(f"{run}/result.json")
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _line(run_id: str, stamp: Stamp, record: Mapping[str, Any]) -> bytes:
    return json.dumps([run_id, *stamp, record], separators=(",", ":")).encode() + b"\n"


def _append_lines(root: Path, lines: list[bytes]) -> None:
    descriptor = os.open(root / NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + b"".join(lines))
    finally:
        os.close(descriptor)
