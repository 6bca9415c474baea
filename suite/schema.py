"""The record of a finished run: the one definition of what it holds.

A record is JSON, read and written by msgspec. Its version is `VERSION`; nothing reads another one. Loads no
torch.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct

from suite.errors import SteppeError
from suite.metric import Description
from suite.spec import RunSpec

VERSION = 2

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
Amount = Annotated[float, Meta(ge=0)]
Number = float | None
"""A finite number; null where it was not finite."""
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Part(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Part of a record: immutable, without unknown fields; defaults are left out of the JSON."""


def pack_right(packed: bytes) -> str:
    """Write packed bits, the most significant first, as base64 of zlib."""
    return base64.b64encode(zlib.compress(packed, 9)).decode()


def unpack_right(text: str, n: int) -> bytes:
    """Return the packed bits of n examples; ValueError where they are not whole, zlib.error if damaged."""
    unpacker, size = zlib.decompressobj(), -(-n // 8)
    packed = unpacker.decompress(base64.b64decode(text, validate=True), size + 1)  # a bomb ends there
    if len(packed) != size or not unpacker.eof or int.from_bytes(packed, "big") % (1 << 8 * size - n):
        raise ValueError(f"it does not hold {n} examples")
    return packed


class SplitResult(_Part, frozen=True):
    """Evaluation of one split at the final weights."""

    n: Positive
    """Examples."""
    metrics: dict[str, Number]
    as_trained: dict[str, Number] = {}
    """The same with BatchNorm's statistics as training left them, of test splits of a model that has any."""
    right: dict[str, str] = {}
    """Evidence of test splits: by metric, which examples were right, as `pack_right` writes it.

    Left out where a record would grow beyond what may be published; empty texts in the slim records of an
    index.
    """


class CurveResult(_Part, frozen=True):
    """A profile: a curve as a result of the run."""

    x: tuple[float, ...]
    y: tuple[Number, ...]


class Origin(_Part, frozen=True):
    """The code and the machine that made a number."""

    source_tree: Sha256
    """SHA-256 over the Python files of suite, tasks and baselines."""
    git_commit: str | None
    """With `-dirty` where files differed from it; null outside a clone."""
    fingerprint: str
    """Hardware and software in one line: bytes and seconds compare within one."""


class Estimate(_Part, frozen=True):
    """A sharpness measure: its value, its errors and how it came about (`suite.sharpness.Estimate`)."""

    value: Number
    se_probes: Number
    se_examples: Number
    n: Positive
    """Examples of the subset."""
    probes: Count
    estimator: str
    version: Positive
    """Of the estimator: numbers of different versions share no column."""
    reason: str = ""
    """Why there is no value."""
    origin: Origin | None = None
    """What made it; null: what made the record."""


class Sharpness(_Part, frozen=True):
    """Measures at the final weights, on a fixed subset of the training examples (protocol rules 26, 27)."""

    n: Positive
    metrics: dict[str, Number]
    """Loss and scores on the same examples."""
    measures: dict[str, Estimate]


class Cost(_Part, frozen=True):
    """What a run cost."""

    sample_gradients: float
    """What the optimizer is charged (PROTOCOL, rule 1)."""
    gradients: Count
    """Of that: examples through forward and backward."""
    losses: Count
    """Examples through forward alone, a third of a sample-gradient each."""
    function: Amount
    """Sample-gradients of the loss as a function, by their operations."""
    forward_only: Count
    """Examples of evaluation and re-estimation, not charged."""
    steps: Count
    n_train: Positive
    """Examples of an epoch."""
    declared: Amount
    """Sample-gradients per example and step, as the entry declares them."""
    train_s: Amount
    evaluate_s: Amount
    measure_s: Amount


class Failure(_Part, frozen=True):
    """How a run failed."""

    kind: Literal["diverged", "metric"]
    """diverged: a loss was not finite along training; metric: a test result is not."""
    step: Count
    reason: str


class Provenance(_Part, frozen=True):
    """Where a record comes from; nothing that names a machine, a path or a person."""

    origin: Origin
    versions: dict[str, str]
    hardware: dict[str, str | int | None]
    bit_exact: bool
    """Whether the same spec must give the same bytes on the same fingerprint."""
    attempts: Positive
    settings: dict[str, str] = {}
    """What made a library choose other kernels than it does by itself."""
    fingerprints: tuple[str, ...] = ()
    """Of all attempts whose steps are in the weights, where these are several."""


class Sources(_Part, frozen=True):
    """Hashes of the code of the run's two entries."""

    task: Sha256
    optimizer: Sha256


class Record(_Part, frozen=True, tag_field="record_version", tag=VERSION):
    """What a finished run leaves."""

    protocol: str
    engine: Positive
    run_id: str
    spec: RunSpec
    task: Description
    status: Literal["completed", "failed"]
    cost: Cost
    sources: Sources
    data: dict[str, str]
    """Checksums of what was drawn from the data set: records of one table agree in them."""
    provenance: Provenance
    failure: Failure | None = None
    results: dict[str, SplitResult] = {}
    """By split, in the order of `task.evaluated`."""
    facts: dict[str, Number] = {}
    profiles: dict[str, CurveResult] = {}
    sharpness: Sharpness | None = None
    digests: dict[str, str] = {}
    """SHA-256 of generated splits, which may differ in the last digits between machines."""
    perturbation_cosine: dict[str, float] = {}
    """Realised against intended perturbation in low precision, at the first and the last step."""

    @property
    def failed(self) -> bool:
        """Whether the run has no results."""
        return self.status == "failed"

    def score(self) -> float | None:
        """Return what rows are compared by: the primary metric on the scored split."""
        result = self.results.get(self.task.scored)
        return None if result is None else result.metrics.get(self.task.primary.name)


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Record)


def to_line(record: Record) -> bytes:
    """Write a record as a line of canonical JSON."""
    return _ENCODER.encode(record) + b"\n"


def to_document(record: Record) -> bytes:
    """Write a record as JSON for people."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def decode(raw: bytes) -> Record:
    """Read a record without a word about what is wrong with it: msgspec.MsgspecError."""
    return _DECODER.decode(raw)


def read(raw: bytes, where: object, hint: str, run_id: str = "") -> Record:
    """Read a record; SteppeError says in one line what is wrong with it.

    Args:
        raw: its JSON.
        where: the file, or file:line, that it comes from.
        hint: what to do about a record that is wrong.
        run_id: the run that it must be of; empty where its spec says so alone.

    """
    try:
        record = _DECODER.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SteppeError(f"{where}{_explained(raw, str(error))}: {hint}") from None
    wrong = record.run_id != record.spec.run_id or (run_id and record.run_id != run_id)
    if wrong:
        owner = run_id or record.spec.run_id
        raise SteppeError(
            f"{where} says it is of run {record.run_id!r}, but its spec is that of {owner}: {hint}"
        )
    return record


def _explained(raw: bytes, error: str) -> str:
    """Say what was found where a field is wrong; and of a record of an older version, that it is retired."""
    try:
        found: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return " is half-written or corrupt"
    version = found.get("record_version") if isinstance(found, Mapping) else None
    if version != VERSION:
        retired = isinstance(version, int) and version < VERSION
        what = "retired" if retired else "unknown here"
        return f": record_version is {version!r}, which is {what}; valid: {VERSION}"
    message, _, path = error.partition(" - at `$")
    path = _located(found, message, path.rstrip("`"))
    value, where = _at(found, path), path.lstrip(".")
    if value is UNSET or not where:
        return f": {message}"
    if isinstance(value, dict | list):  # what is wrong is a field inside, or one too few
        return f": {where}: {message.lower()}"
    return f": {where} is {value!r:.60}; {message.lower()}"


def _located(found: Any, message: str, path: str) -> str:
    """Put the key in the place of each `[...]`, by which msgspec names any value of a mapping."""
    while "[...]" in path:
        above = path[: path.index("[...]")]
        table = _at(found, above)
        if not isinstance(table, dict):
            break
        for key in table:
            alone = _with(found, _pieces(above), {key: table[key]})
            try:
                msgspec.convert(alone, Record)
            except msgspec.ValidationError as error:
                if str(error).startswith(message) and above in str(error):
                    path = path.replace("[...]", f".{key}", 1)
                    break
        else:
            break
    return path


def _with(found: Any, pieces: list[str | int], value: Any) -> Any:
    """Copy JSON data with another value in one place."""
    if not pieces:
        return value
    first, *rest = pieces
    out: Any = dict(found) if isinstance(found, dict) else list(found)
    out[first] = _with(found[first], rest, value)
    return out


def _pieces(path: str) -> list[str | int]:
    pieces = path.replace("[", ".[").split(".")
    return [int(one[1:-1]) if one[:1] == "[" and one[1:-1].isdigit() else one for one in pieces if one]


def _at(value: Any, path: str) -> Any:
    """Follow a path of msgspec's errors, such as `.task.metrics[0]`; UNSET where it ends early."""
    for piece in _pieces(path):
        try:
            value = value[piece]
        except (LookupError, TypeError):
            return UNSET
    return value
