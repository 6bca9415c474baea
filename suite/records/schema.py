"""Schema of the record of a finished run.

A record is JSON, read and written by msgspec. Its version is `VERSION`; other versions are rejected. Loads no
torch.
"""

from __future__ import annotations

import base64
import re
import zlib
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from suite.errors import SteppeError
from suite.metric import Description
from suite.spec import RunSpec

VERSION = 2

LARGEST = 2**53
"""Largest count; whole numbers up to it are exact when they are converted to floating point."""

Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Positive = Annotated[int, Meta(gt=0, le=LARGEST)]
Amount = Annotated[float, Meta(ge=0)]
Number = float | None
"""A finite number; null if it was not finite."""
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Part(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Part of a record: immutable, without unknown fields; defaults are omitted from the JSON."""


def pack_right(packed: bytes) -> str:
    """Encode packed bits, the most significant first, as base64 of zlib.

    >>> list(unpack_right(pack_right(bytes([0b10100000])), n=3))
    [160]
    """
    return base64.b64encode(zlib.compress(packed, 9)).decode()


def unpack_right(text: str, n: int) -> bytes:
    """Return the packed bits of n examples; ValueError if they are incomplete, zlib.error if damaged."""
    unpacker, size = zlib.decompressobj(), -(-n // 8)
    packed = unpacker.decompress(base64.b64decode(text, validate=True), size + 1)  # limits a zlib bomb
    whole = unpacker.eof and not unpacker.unused_data
    if len(packed) != size or not whole or int.from_bytes(packed, "big") % (1 << 8 * size - n):
        raise ValueError(f"it does not hold {n} examples")
    return packed


class SplitResult(_Part, frozen=True, gc=False):
    """Evaluation of one split at the final weights."""

    n: Positive
    """Number of examples."""
    metrics: dict[str, Number]
    as_trained: dict[str, Number] = {}
    """The metrics with BatchNorm's statistics of training; only for test splits of models with BatchNorm."""
    right: dict[str, str] = {}
    """Evidence of test splits: by metric, the correct examples, encoded by `pack_right`.

    Omitted if a record would exceed the size limit for publishing; empty texts in the slim records of an
    index.
    """


class CurveResult(_Part, frozen=True, gc=False):
    """The curve of a profile."""

    x: tuple[float, ...]
    y: tuple[Number, ...]


class Origin(_Part, frozen=True, gc=False):
    """The code and the machine that computed a number."""

    source_tree: Sha256
    """SHA-256 over the Python files of suite, tasks and baselines."""
    git_commit: str | None
    """With `-dirty` if files differed from the commit; null outside a clone."""
    fingerprint: str
    """Hardware and software in one line: bytes and times are comparable within one fingerprint."""


class Estimate(_Part, frozen=True, gc=False):
    """The estimate of a sharpness measure (see `suite.sharpness`): value, errors and estimator."""

    value: Number
    se_probes: Number
    se_examples: Number
    n: Positive
    """Number of examples in the subset."""
    probes: Count
    estimator: str
    """Settings of the estimator; empty in the slim records of an index."""
    version: Positive
    """Version of the estimator: numbers of different versions share no column."""
    reason: str = ""
    """Reason for a missing value."""
    origin: Origin | None = None
    """Origin of the estimate; null: that of the record."""


class Sharpness(_Part, frozen=True, gc=False):
    """Measures at the final weights, on a fixed subset of the training examples (protocol rules 26, 27)."""

    n: Positive
    metrics: dict[str, Number]
    """Loss and scores on the same examples."""
    measures: dict[str, Estimate]


class Cost(_Part, frozen=True, gc=False):
    """Cost of a run."""

    sample_gradients: float
    """Total charged to the optimizer (PROTOCOL, rule 1)."""
    gradients: Count
    """Charged: examples through forward and backward."""
    losses: Count
    """Charged: examples through forward alone, a third of a sample-gradient each."""
    function: Amount
    """Charged: sample-gradients of the loss as a function, by its operations."""
    forward_only: Count
    """Not charged: examples of evaluation and re-estimation."""
    steps: Count
    n_train: Positive
    """Examples per epoch."""
    declared: Amount
    """Sample-gradients per example and step, as the entry declares them."""
    train_s: Amount
    evaluate_s: Amount
    measure_s: Amount


class Failure(_Part, frozen=True, gc=False):
    """Failure of a run."""

    kind: Literal["diverged", "metric"]
    """diverged: a loss was not finite during training; metric: the final primary metric is not finite."""
    step: Count
    reason: str


class Provenance(_Part, frozen=True, gc=False):
    """Provenance of a record, without the name of a machine, a path or a person."""

    origin: Origin
    versions: dict[str, str]
    hardware: dict[str, str | int | None]
    bit_exact: bool
    """Whether the same spec must give the same bytes on the same fingerprint."""
    attempts: Positive
    settings: dict[str, str] = {}
    """Settings that made a library choose other than its default kernels."""
    fingerprints: tuple[str, ...] = ()
    """Fingerprints of all attempts whose steps are in the weights, if there are several."""


class Sources(_Part, frozen=True, gc=False):
    """Hashes of the code of the task entry and the optimizer entry."""

    task: Sha256
    optimizer: Sha256


class Record(_Part, frozen=True, gc=False, tag_field="record_version", tag=VERSION):
    """The record of a finished run."""

    protocol: str
    engine: Positive
    run_id: str
    spec: RunSpec
    task: Description
    status: Literal["completed", "failed"]
    cost: Cost
    sources: Sources
    data: dict[str, str]
    """Checksums of the draws from the data set: records of one table must agree in them."""
    provenance: Provenance
    failure: Failure | None = None
    results: dict[str, SplitResult] = {}
    """By split, in the order of `task.evaluated`."""
    facts: dict[str, Number] = {}
    profiles: dict[str, CurveResult] = {}
    sharpness: Sharpness | None = None
    digests: dict[str, Sha256] = {}
    """SHA-256 of generated splits, whose values may differ in the last digits between machines."""
    perturbation_cosine: dict[str, float] = {}
    """Cosine of realised and intended perturbation in low precision, at the first and the last step."""

    @property
    def failed(self) -> bool:
        """Whether the run has no results."""
        return self.status == "failed"

    def score(self) -> float | None:
        """Return the number by which rows are compared: the primary metric on the scored split."""
        result = self.results.get(self.task.scored)
        return None if result is None else result.metrics.get(self.task.primary.name)


class _Retired(Struct, tag_field="record_version", tag=1):
    """A record of protocol 0.1, whose content is not read."""


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER: msgspec.json.Decoder[Record | _Retired] = msgspec.json.Decoder(Record | _Retired)
"""Decodes a union, because for a single type msgspec does not require the record to state its version."""


def to_line(record: Record) -> bytes:
    """Encode a record as a line of canonical JSON."""
    return _ENCODER.encode(record) + b"\n"


def to_document(record: Record) -> bytes:
    """Encode a record as indented JSON for human readers."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def decode(raw: bytes) -> Record:
    """Decode a record; raises msgspec.MsgspecError, which `read` explains."""
    found = _DECODER.decode(raw)
    if isinstance(found, _Retired):
        raise msgspec.ValidationError("it is retired")
    return found


def read(raw: bytes, where: object, hint: str, run_id: str = "") -> Record:
    """Decode a record; SteppeError describes the first fault in one line.

    Args:
        raw: its JSON.
        where: the file, or file:line, of the record.
        hint: the action to take on a faulty record.
        run_id: the run to which the record must belong; empty: the run of its spec.

    """
    try:
        try:
            record = decode(raw)
        except msgspec.ValidationError as error:
            raise SteppeError(f"{where}: {_explained(raw, str(error))}: {hint}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SteppeError(f"{where} is half-written or corrupt: {hint}") from None
    wrong = record.run_id != record.spec.run_id or (run_id and record.run_id != run_id)
    if wrong:
        owner = run_id or record.spec.run_id
        raise SteppeError(
            f"{where} says it is of run {record.run_id!r}, but its spec is that of {owner}: {hint}"
        )
    return record


def _explained(raw: bytes, error: str) -> str:
    """Describe an error of msgspec: the field, the value found there, and the valid values."""
    # msgspec's message gives type and path only: follow the path in the JSON for the value found there.
    found: Any = msgspec.json.decode(raw)
    if isinstance(found, dict) and found.get("record_version") != VERSION:
        version = f"{found['record_version']!r:.60}" if "record_version" in found else "missing"
        retired = ", which is retired" if version == "1" else ""
        return f"record_version is {version}{retired}; valid: {VERSION}"
    message, _, path = error.partition(" - at `$")
    value, kind, pieces = found, Record, []
    try:
        for piece in re.findall(r"\[\.\.\.\]|\[\d+\]|[^.\[\]`]+", path):
            key, kind = _inside(value, kind, piece)
            value = value[key]
            pieces.append(f"[{key}]" if isinstance(key, int) else f".{printable(key)}")
    except (LookupError, TypeError, StopIteration):
        return printable(error)
    where = "".join(pieces).removeprefix(".")
    if field := re.fullmatch("(?s)Object (missing required|contains unknown) field `(.*)`", message):
        inner = ".".join(filter(None, (where, printable(field[2]))))
        known = ", ".join(get_type_hints(kind)) if isinstance(kind, type) else ""
        return f"{inner} is missing" if field[1][0] == "m" else f"{inner} is no field; valid: {known}"
    if message.startswith("Invalid enum value"):
        valid = " or ".join(map(repr, get_args(kind)))
    elif expected := re.fullmatch("Expected (.*?)(, got `.*`)?", message):
        valid = expected[1].replace("`", "")
    else:  # a check of ours, or of the size of a number
        return f"{where}: {message}" if where else message
    return f"{where or 'it'} is {value!r:.60}; valid: {valid}"


def _inside(value: Any, kind: Any, piece: str) -> tuple[str | int, Any]:
    """Return the key or index for one piece of an msgspec path, and the type of the value there.

    msgspec gives no key of a mapping: it is the first key whose value does not have the type.
    """
    while get_origin(kind) in (Union, UnionType, Annotated):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if piece == "[...]":
        inner = get_args(kind)[1]
        return next(key for key, one in value.items() if not _has_type(one, inner)), inner
    if piece.startswith("["):
        return int(piece[1:-1]), get_args(kind)[0]
    return piece, get_type_hints(kind, include_extras=True)[piece]


def _has_type(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def printable(text: str) -> str:
    """Return text on one line, with unprintable characters as escape codes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
