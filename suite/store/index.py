"""The index of a store: one file to read instead of thousands of records.

It is a cache of the run folders and repairs itself: `load` compares it with the folders, at one `stat` per
run. This finds records without a line (the process was killed before it appended one), torn lines, and lines
of changed or deleted records. Deleting the index loses nothing. Its records are slim: without the evidence of
single examples and without the fields that only the page of a run shows.

A line holds the CRC-32 of its rest, the record's modification time in ns and size in bytes, and the slim
record as JSON. A line that is torn, mixed with another by a network file system, or of another version is
skipped. Publishing a run appends a line without reading the index; a listing that finds many dead lines
rewrites it.

The JSON has two parts, separated by a tab: the fields of one run, and those it shares with other seeds of its
setting. Equal shared parts are decoded once, and their records share the objects: with 100,000 runs this
saves most of the time and memory. So a record must never be modified.
"""

from __future__ import annotations

import contextlib
import gc
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Required, TypedDict, get_type_hints

import msgspec

from suite.errors import SteppeError
from suite.files import StorageError, write_whole
from suite.records import schema
from suite.records.schema import Cost, Record

__all__ = ["Records", "append", "load", "read_record", "slim"]

NAME = "index.jsonl"
_HINT = "delete it and give the same `steppe run` again to resume the run from its checkpoint"

_NO_COST = Cost(0.0, 0, 0, 0.0, 0, 0, n_train=1, declared=0.0, train_s=0.0, evaluate_s=0.0, measure_s=0.0)
_BLANK: dict[str, Any] = {
    "run_id": "",
    "status": "completed",
    "cost": _NO_COST,
    "failure": None,
    "results": {},
    "facts": {},
    "profiles": {},
    "sharpness": None,
    "digests": {},
    "perturbation_cosine": {},
}
"""Fields that seeds do not share, with their placeholders in the shared part."""

_HINTS = get_type_hints(Record, include_extras=True)
_OWN_FIELDS = {"seed": Required[int], **{name: _HINTS[name] for name in _BLANK}}
_OWN = msgspec.json.Decoder(TypedDict("_Own", _OWN_FIELDS, total=False))  # type: ignore[operator]
_ENCODER = msgspec.json.Encoder(order="sorted")

Stamp = tuple[int, int]
"""Modification time in ns and size in bytes: they identify the version of a record."""


class _Entry(NamedTuple):
    stamp: Stamp
    record: Record


class Records(list[Record]):
    """Slim records sorted by run id; `skipped` holds one message per unreadable record."""

    skipped: tuple[str, ...] = ()


def slim(record: Record) -> Record:
    """Return a record with only the content that lists and tables need."""
    replace = msgspec.structs.replace
    results = {
        split: replace(result, right=dict.fromkeys(result.right, ""))
        for split, result in record.results.items()
    }
    provenance = replace(record.provenance, versions={}, hardware={})
    known = record.sharpness
    measures = {name: replace(one, estimator="") for name, one in known.measures.items()} if known else {}
    sharpness = replace(known, measures=measures) if known else None
    return replace(record, results=results, provenance=provenance, sharpness=sharpness)


def read_record(run: Path) -> Record | None:
    """Read the record of a run folder; None if it does not exist, SteppeError if it is damaged."""
    path = run / "result.json"
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    return schema.read(raw, path, _HINT, run.name)


def append(root: Path, run_id: str) -> None:
    """Append the line of a newly published run. Failure is harmless: the next `load` adds the line."""
    run = root / "runs" / run_id
    with contextlib.suppress(OSError, SteppeError):
        stamp, record = _stamp(run), read_record(run)
        if stamp is not None and record is not None:
            _append_lines(root, [_line(_Entry(stamp, slim(record)))])


def load(root: Path) -> Records:
    """Return every record of the store, slim; repair the index if the store is writable."""
    with _no_collection():
        known, n_listed = _read(root / NAME)
        skipped: list[str] = []
        current: dict[str, _Entry] = {}
        for run_id, stamp in _published(root / "runs"):
            entry = known.get(run_id)
            if entry is None or entry.stamp != stamp:
                try:
                    record = read_record(root / "runs" / run_id)
                    if record is None:  # deleted since the listing
                        continue
                    entry = _Entry(stamp, slim(record))
                except SteppeError as error:
                    skipped.append(str(error))
                    continue
            current[run_id] = entry
        with contextlib.suppress(OSError, SteppeError):  # a read-only store can still be listed
            _heal(root, known, current, n_listed)
        records = Records(entry.record for entry in current.values())
        records.skipped = tuple(skipped)
        return records


def _heal(root: Path, known: Mapping[str, _Entry], current: Mapping[str, _Entry], n_listed: int) -> None:
    """Append the missing lines; rewrite the file if many of its lines are dead."""
    missing = [entry for run_id, entry in current.items() if known.get(run_id) is not entry]
    if n_listed + len(missing) - len(current) > max(100, len(current) // 20):
        write_whole(root / NAME, b"".join(map(_line, current.values())), flush=False)
    elif missing:
        _append_lines(root, map(_line, missing))


def _read(path: Path) -> tuple[dict[str, _Entry], int]:
    """Return the newest entry of each run, and the number of all lines, dead or torn."""
    known: dict[str, _Entry] = {}
    shared: dict[bytes, Record] = {}
    n_listed = 0
    with contextlib.suppress(OSError), path.open("rb") as file:
        for line in file:
            n_listed += 1
            with contextlib.suppress(ValueError, msgspec.MsgspecError):  # torn, or of another version
                crc, body = line.split(b" ", 1)
                if crc != b"%08x" % zlib.crc32(body):
                    continue
                modified, size, record = body.split(b" ", 2)
                own, common = record.split(b"\t")
                if common not in shared:
                    shared[common] = schema.decode(common)
                entry = _Entry((int(modified), int(size)), _joined(_OWN.decode(own), shared[common]))
                known[entry.record.run_id] = entry
    return known, n_listed


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


def _line(entry: _Entry) -> bytes:
    body = b"%d %d %b\t%b" % (*entry.stamp, *_parts(entry.record))
    return b"%08x %b" % (zlib.crc32(body), body)


def _parts(record: Record) -> tuple[bytes, bytes]:
    """Encode a run's own fields, and the shared ones as a record with placeholders."""
    own = {name: value for name, blank in _BLANK.items() if (value := getattr(record, name)) != blank}
    spec = msgspec.structs.replace(record.spec, seed=0)
    common = msgspec.structs.replace(record, spec=spec, **_BLANK)
    return _ENCODER.encode(own | {"seed": record.spec.seed}), schema.to_line(common)


def _joined(own: dict[str, Any], common: Record) -> Record:
    spec = msgspec.structs.replace(common.spec, seed=own.pop("seed"))
    return msgspec.structs.replace(common, spec=spec, **own)


def _append_lines(root: Path, lines: Iterable[bytes]) -> None:
    descriptor = os.open(root / NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + b"".join(lines))
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection: with 100,000 new records it takes half the time and frees nothing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
