"""Published records: the part of a run's record that may be committed, and reading it back.

A published file holds one record a line as canonical JSON, at most 10 kB each, sorted by run id. It names no
path and no host. Nothing here loads torch.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.index import check_record
from suite.spec import RunSpec, canonical_json

MAX_BYTES = 10_000

FIELDS = (
    "record_version",
    "protocol",
    "run_id",
    "spec",
    "status",
    "failure",
    "results",
    "sharpness",
    "cost",
    "perturbation_cosine",
    "correct",
    "entries",
    "data",
)
PROVENANCE = ("fingerprint", "source_tree", "git_commit", "versions", "hardware", "bit_exact", "attempts")


def strip(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what may be published of a record; SteppeError where that is over 10 kB."""
    out = {key: record[key] for key in FIELDS if key in record}
    provenance = record.get("provenance") or {}
    out["provenance"] = {key: provenance[key] for key in PROVENANCE if key in provenance}
    size = len(to_line(out))
    if size > MAX_BYTES:
        raise SteppeError(
            f"the record of run {record.get('run_id')} has {size} bytes; {MAX_BYTES} may be published"
        )
    return out


def to_line(record: Mapping[str, Any]) -> bytes:
    """One record as a line of canonical JSON."""
    return canonical_json(record).encode() + b"\n"


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read a published file; SteppeError names the line that is no whole record of the run that it claims."""
    return (read_line(line, where) for where, line in numbered_lines(path))


def numbered_lines(path: Path) -> Iterator[tuple[Path, str]]:
    """Read the lines of a published file one by one, each with its `file:number`."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield Path(f"{path}:{number}"), line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SteppeError(f"cannot read {path}: {error}") from error


def read_line(line: str, where: Path) -> dict[str, Any]:
    """Read one published record; SteppeError where it is not whole or not of the run that it claims."""
    try:
        record: dict[str, Any] = json.loads(line)
        claimed = RunSpec.from_dict(record["spec"]).run_id
    except (ValueError, KeyError, TypeError, SteppeError):
        raise SteppeError(f"{where} is not a record: restore it, or publish the run again") from None
    check_record(record, claimed, where)
    return record


def check_published(record: Mapping[str, Any], where: Path) -> None:
    """Raise SteppeError unless the record is publishable and its accuracy is that of its stored examples."""
    try:
        _check_content(record, where)
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise SteppeError(
            f"{where}: a field is missing or wrong ({type(error).__name__}: {error}): publish the run again"
        ) from None


def _check_content(record: Mapping[str, Any], where: Path) -> None:
    if strip(record) != record:
        extra = sorted(record.keys() - {*FIELDS, "provenance"} | record["provenance"].keys() - {*PROVENANCE})
        raise SteppeError(
            f"{where} holds more than may be published ({', '.join(extra)}): publish the run again"
        )
    if record["status"] != "completed":
        return
    results = record["results"]
    packed = zlib.decompressobj().decompress(base64.b64decode(record["correct"]), results["n_test"] // 8 + 1)
    n_correct = int.from_bytes(packed, "big").bit_count()
    if n_correct != round(results["test_accuracy"] * results["n_test"]):
        raise SteppeError(
            f"{where}: test_accuracy {results['test_accuracy']:.6g} is not the {n_correct} of "
            f"{results['n_test']} examples stored as correct: publish the run again"
        )
