"""The index of a store: one file to read in place of thousands of records.

It is a cache of the run folders and heals itself: a record without a line (its process was killed in
between), a torn line, a line whose record changed or was deleted are all found by comparing with the
folders, at the price of one `stat` a run. Nothing is lost by deleting it. Records in it are slim: without the
evidence of single examples and without what only the page of a run shows.

A line is the CRC-32 of the rest, the record's modification time in ns and size in bytes, and the slim record
as JSON, so that one that is torn, mixed with another by a network file system, or of another version is
passed over. Publishing a run appends a line and reads nothing; a listing that finds many dead lines writes
the file anew.

The record stands there in two parts, with a tab between them: what the run came to, and all that it shares
with other seeds of its setting. Equal parts of the second kind are read once, and their records hold the same
objects: over 100,000 runs that is most of the time and of the memory. So nothing of a record may be changed.
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
"""What a run does not share with other seeds, as it stands in the part that they share."""

_HINTS = get_type_hints(Record, include_extras=True)
_OWN_FIELDS = {"seed": Required[int], **{name: _HINTS[name] for name in _BLANK}}
_OWN = msgspec.json.Decoder(TypedDict("_Own", _OWN_FIELDS, total=False))  # type: ignore[operator]
_ENCODER = msgspec.json.Encoder(order="sorted")

Stamp = tuple[int, int]
"""Modification time in ns and size in bytes: what tells a record from another in its place."""


class _Entry(NamedTuple):
    stamp: Stamp
    record: Record


class Records(list[Record]):
    """Slim records in the order of their run ids; `skipped` holds a line for each that could not be read."""

    skipped: tuple[str, ...] = ()


def slim(record: Record) -> Record:
    """Keep the part of a record that lists and tables need."""
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
    """Read the record of a run folder, None where it is not done; SteppeError where it is damaged."""
    path = run / "result.json"
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    return schema.read(raw, path, _HINT, run.name)


def append(root: Path, run_id: str) -> None:
    """Add the line of a run just published. Failing is harmless: the next listing finds the record."""
    run = root / "runs" / run_id
    with contextlib.suppress(OSError, SteppeError):
        stamp, record = _stamp(run), read_record(run)
        if stamp is not None and record is not None:
            _append_lines(root, [_line(_Entry(stamp, slim(record)))])


def load(root: Path) -> Records:
    """Every record of the store, slim; heals the index on the way where the store can be written."""
    with _no_collection():
        known, n_listed = _read(root / NAME)
        skipped: list[str] = []
        current: dict[str, _Entry] = {}
        for run_id, stamp in _published(root / "runs"):
            entry = known.get(run_id)
            if entry is None or entry.stamp != stamp:
                try:
                    record = read_record(root / "runs" / run_id)
                    if record is None:  # deleted since it was listed
                        continue
                    entry = _Entry(stamp, slim(record))
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
    """Append the lines that were missing; write the file anew once many of its lines are dead."""
    missing = [entry for run_id, entry in current.items() if known.get(run_id) is not entry]
    if n_listed + len(missing) - len(current) > max(100, len(current) // 20):
        write_whole(root / NAME, b"".join(map(_line, current.values())), flush=False)
    elif missing:
        _append_lines(root, map(_line, missing))


def _read(path: Path) -> tuple[dict[str, _Entry], int]:
    """Return the newest entry of each run, and the number of all, dead and torn ones too."""
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
    """Write what is a run's own, and what it shares, as a record without the former."""
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
    """Disable the search for cycles: among 100,000 new records it takes half the time and finds none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
