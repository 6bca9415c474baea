"""Records prepared for reports, and the keys that group them into tables and rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from suite.entries.labels import entry_label
from suite.records.schema import Record
from suite.spec import EntryRef, Param, RunSpec, sha256_text

_ENCODER = msgspec.json.Encoder(order="sorted")


class Keys(Struct, frozen=True, eq=False, gc=False):
    """The keys that group runs; runs that differ only in their seed share them."""

    stratum: bytes
    """See `stratum`."""
    optimizer: bytes
    """The resolved optimizer, its version and source included."""
    set_up: bytes
    """The spec without the seed; within a stratum and an optimizer, it is the way of execution."""
    epochs: float
    """Epochs, rounded, to distinguish runs of one optimizer."""


class Run(Struct, frozen=True, eq=False, gc=False):
    """One record with its keys and cost."""

    record: Record
    keys: Keys
    run_id: str
    seed: int
    failed: bool
    """Whether it has no results."""
    planned: float
    """Sample-gradients of the whole run: metered if it completed, else as declared by its entry."""

    @property
    def fingerprint(self) -> str:
        """Hardware and software that produced its results; the last one if it moved."""
        return self.record.provenance.origin.fingerprint

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """All hardware and software that it trained on."""
        return self.record.provenance.fingerprints or (self.fingerprint,)

    @property
    def moved(self) -> bool:
        """Whether it changed its fingerprint during training; then its seconds are those of neither."""
        return len(self.fingerprints) > 1


def runs_of(records: Sequence[Record]) -> Iterator[Run]:
    """Prepare records for reports; keys are expensive, so records with identical objects share them."""
    known: dict[tuple[bytes, int, int, int], Keys] = {}
    for record, set_up in zip(records, set_ups([record.spec for record in records]), strict=True):
        setting = set_up, id(record.data), id(record.sources), id(record.task)
        if setting not in known:
            known[setting] = _keys(record, set_up)
        yield _run(record, known[setting])


def set_ups(specs: Sequence[RunSpec]) -> Iterator[bytes]:
    """Encode each spec without its seed, once for specs with identical objects."""
    known: dict[tuple[int, ...], bytes] = {}
    for spec in specs:
        task, optimizer, _seed, *others = msgspec.structs.astuple(spec)
        ids = tuple(map(id, (task, optimizer, *others)))
        if ids not in known:
            known[ids] = _ENCODER.encode(msgspec.structs.replace(spec, seed=0))
        yield known[ids]


def stratum(record: Record) -> bytes:
    """Encode the conditions, except the budget, that records of one table must share."""
    spec = record.spec
    conditions = spec.data, spec.data_checksum, spec.protocol, spec.engine, spec.precision, spec.device
    execution = spec.compile, spec.ranks
    return _ENCODER.encode(
        (spec.task, *conditions, *execution, record.data, record.sources.task, record.task)
    )


def optimizer_key(record: Record) -> bytes:
    """Encode the resolved optimizer, its version and source included."""
    return _ENCODER.encode((record.spec.optimizer, record.sources.optimizer))


def _keys(record: Record, set_up: bytes) -> Keys:
    return Keys(stratum(record), optimizer_key(record), set_up, round(record.spec.epochs, 3))


def _run(record: Record, keys: Keys) -> Run:
    cost, failed = record.cost, record.failed
    planned = record.spec.epochs * cost.n_train * cost.declared if failed else cost.sample_gradients
    return Run(record, keys, record.run_id, record.spec.seed, failed, planned)


def number(value: Any) -> float | None:
    """Return a finite number as a float; None for a value that is missing or not finite."""
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def entry_labels(
    refs: Mapping[bytes, EntryRef], declared: Mapping[str, Mapping[str, Param]]
) -> dict[bytes, str]:
    """Return distinct labels of entries by key; `declared` are their parameters by name."""
    labels = {key: (entry_label(ref, declared.get(ref.name)), ref.version) for key, ref in refs.items()}
    return {key: labels[key][0] + tail for key, tail in tails(labels).items()}


def tails(labels: Mapping[bytes, tuple[str, str]]) -> dict[bytes, str]:
    """Distinguish equal labels: (label, version) by key -> "", "@version" if that suffices, else "#key"."""
    out = dict.fromkeys(labels, "")
    for further in (
        {key: f"@{version}" for key, (_, version) in labels.items()},
        {key: f"#{sha256_text(key.decode())[:6]}" for key in labels},
    ):
        seen = Counter(labels[key][0] + out[key] for key in labels)
        out = {
            key: tail + further[key] if seen[labels[key][0] + tail] > 1 else tail for key, tail in out.items()
        }
    return out
