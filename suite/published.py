"""Published records: the part of a run's record that may be committed, and reading it back.

A published file holds one record a line as canonical JSON, at most 10 kB each, sorted by run id. It names no
path and no host. Nothing here loads torch.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
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
_OPTIONAL = {"perturbation_cosine", "validation_accuracy_clean", "ranks"}
"""Written in low precision, of tasks with label noise, and of runs of several processes."""

PROVENANCE = ("fingerprint", "source_tree", "git_commit", "versions", "hardware", "bit_exact", "attempts")


_COUNT = "a whole number above 0"
_AMOUNT = "a number of at least 0"
_SHARE = "a number from 0 to 1"
_NUMBER = "a number or null"
_TEXT = "a text"
_SOURCE = "a text or null"
_FLAG = "true or false"
_TABLE = "a table"

_IS: dict[str, Callable[[Any], bool]] = {
    _COUNT: lambda value: _is_number(value) and type(value) is int and value > 0,
    _AMOUNT: lambda value: _is_number(value) and value >= 0,
    _SHARE: lambda value: _is_number(value) and 0 <= value <= 1,
    _NUMBER: lambda value: value is None or _is_number(value),
    _TEXT: lambda value: isinstance(value, str),
    _SOURCE: lambda value: value is None or isinstance(value, str),
    _FLAG: lambda value: isinstance(value, bool),
    _TABLE: lambda value: isinstance(value, dict),
}

_PARTS = {
    "spec": {
        **dict.fromkeys(("task", "optimizer"), _TABLE),
        **dict.fromkeys(("data", "data_checksum", "protocol", "precision", "device"), _TEXT),
        **dict.fromkeys(("seed", "epochs"), _AMOUNT),
        **dict.fromkeys(("threads", "ranks"), _COUNT),
        "compile": _FLAG,
    },
    "results": {
        "n_test": _COUNT,
        **dict.fromkeys(("test_accuracy", "test_accuracy_as_trained", "validation_accuracy"), _SHARE),
        "validation_accuracy_clean": _SHARE,
        **dict.fromkeys(("test_loss", "validation_loss"), _NUMBER),
    },
    "sharpness": {"n": _COUNT, "train_loss": _NUMBER, "train_accuracy": _SHARE, "measures": _TABLE},
    "cost": {
        "n_train": _COUNT,
        **dict.fromkeys(("sample_gradients", "forward_only", "steps", "declared"), _AMOUNT),
        **dict.fromkeys(("train_s", "evaluate_s", "measure_s"), _AMOUNT),
    },
    "entries": dict.fromkeys(("task", "optimizer"), _TEXT),
    "data": dict.fromkeys(("split_checksum", "noise_checksum"), _TEXT),
}
"""What the parts of a record hold, by key, as `suite.record` writes them."""

_ENTRY = {"name": _TEXT, "version": _TEXT, "params": _TABLE, "plugin_source": _SOURCE}

_MEASURE = {
    **dict.fromkeys(("value", "se_probes", "se_examples"), _NUMBER),
    **dict.fromkeys(("n", "probes"), _AMOUNT),
    "estimator": _TEXT,
}

_OF_FAILED: dict[str, Any] = {"results": {}, "sharpness": {}, "correct": ""}
"""What a run that diverged has nothing in."""


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
    """Raise SteppeError unless the record is publishable, whole, and agrees with itself.

    Its numbers must be of their kind, and its accuracy that of its stored examples.
    """
    try:
        _check_content(record, where)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, zlib.error) as error:
        raise SteppeError(
            f"{where}: a field is missing or wrong ({type(error).__name__}: {error}): publish the run again"
        ) from None


def _check_content(record: Mapping[str, Any], where: Path) -> None:
    if strip(record) != record:
        extra = sorted(record.keys() - {*FIELDS, "provenance"} | record["provenance"].keys() - {*PROVENANCE})
        raise SteppeError(
            f"{where} holds more than may be published ({', '.join(extra)}): publish the run again"
        )
    defect = next(_defects(record), None)
    if defect is not None:
        raise SteppeError(f"{where}: {defect}: publish the run again")


def _defects(record: Mapping[str, Any]) -> Iterator[str]:
    """Say what is missing or false; what comes after the first is only certain if that is mended."""
    yield from (f"{key} is missing" for key in FIELDS if key not in record and key not in _OPTIONAL)
    failed = record["status"] == "failed"
    for name, kinds in _PARTS.items():
        if not (failed and name in _OF_FAILED):
            yield from _odd(name, record[name], kinds)
    for name in ("task", "optimizer"):
        yield from _odd(f"spec.{name}", record["spec"][name], _ENTRY)
    if record["protocol"] != record["spec"]["protocol"]:
        yield f"protocol {record['protocol']!r} is not {record['spec']['protocol']!r}, that of its spec"
    if failed:
        full = [key for key, empty in _OF_FAILED.items() if record[key] != empty]
        yield from (f"{key} is not empty, but the run failed" for key in full)
    if not (isinstance(record["failure"], dict) if failed else record["failure"] is None):
        yield f"failure is {record['failure']!r:.60}, which does not fit its status, {record['status']}"
    if not failed:
        for name, estimate in record["sharpness"]["measures"].items():
            yield from _odd(f"sharpness.measures.{name}", estimate, _MEASURE)
        yield from _false_accuracy(record["results"], record["correct"])


def _odd(name: str, part: Any, kinds: Mapping[str, str]) -> Iterator[str]:
    """Name the fields of a part that are missing, unknown, or not of their kind."""
    if not isinstance(part, dict):
        yield f"{name} is {part!r:.60}, not {_TABLE}"
    yield from (f"{name}.{key} is missing" for key in kinds if key not in part and key not in _OPTIONAL)
    yield from (f"{name}.{key} is not a field of a record" for key in part if key not in kinds)
    for key, value in part.items():
        if not _IS[kinds[key]](value):
            yield f"{name}.{key} is {value!r:.60}, not {kinds[key]}"


def _false_accuracy(results: Mapping[str, Any], correct: str) -> Iterator[str]:
    """Hold the test accuracy to the examples that are stored as correct."""
    n, size = results["n_test"], -(-results["n_test"] // 8)
    unpacker = zlib.decompressobj()
    packed = unpacker.decompress(base64.b64decode(correct, validate=True), size + 1)  # a bomb ends there
    if len(packed) != size or not unpacker.eof:
        yield f"correct does not hold the {n} examples of results.n_test"
    if int.from_bytes(packed, "big") % (1 << 8 * size - n):
        yield f"correct counts more than the {n} examples of results.n_test"
    n_correct = int.from_bytes(packed, "big").bit_count()
    if abs(results["test_accuracy"] - n_correct / n) >= 1e-9:
        claimed = results["test_accuracy"]
        yield f"test_accuracy {claimed} is not the {n_correct} of {n} examples stored as correct"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
