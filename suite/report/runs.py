"""Records read for reporting, and the keys by which they share a table and a row."""

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
    """What runs of one setting share, every seed of it: the keys that they are sorted by."""

    stratum: bytes
    """See `stratum`."""
    optimizer: bytes
    """The resolved optimizer, its version and source included."""
    set_up: bytes
    """All of the spec but the seed: within a stratum, how runs of one optimizer were executed."""
    epochs: float
    """Epochs by which runs of one optimizer are told apart."""


class Run(Struct, frozen=True, eq=False, gc=False):
    """One record, and what it is sorted and counted by."""

    record: Record
    keys: Keys
    run_id: str
    seed: int
    failed: bool
    """Whether it has no results."""
    planned: float
    """Sample-gradients of the whole run: metered if it ended, else what its entry declares."""

    @property
    def fingerprint(self) -> str:
        """Hardware and software that made its results; of a run that moved, the last."""
        return self.record.provenance.origin.fingerprint

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """All hardware and software whose steps are in its weights."""
        return self.record.provenance.fingerprints or (self.fingerprint,)

    @property
    def moved(self) -> bool:
        """Whether it went from one fingerprint to another: its seconds are those of neither."""
        return len(self.fingerprints) > 1


def runs_of(records: Sequence[Record]) -> Iterator[Run]:
    """Read records for reporting; keys take long, so records that hold the same objects share them."""
    known: dict[tuple[bytes, int, int, int], Keys] = {}
    for record, set_up in zip(records, set_ups([record.spec for record in records]), strict=True):
        setting = set_up, id(record.data), id(record.sources), id(record.task)
        if setting not in known:
            known[setting] = _keys(record, set_up)
        yield _run(record, known[setting])


def set_ups(specs: Sequence[RunSpec]) -> Iterator[bytes]:
    """Encode each spec without its seed; for specs that hold the same objects this is done once."""
    known: dict[tuple[int, ...], bytes] = {}
    for spec in specs:
        task, optimizer, _seed, *others = msgspec.structs.astuple(spec)
        ids = tuple(map(id, (task, optimizer, *others)))
        if ids not in known:
            known[ids] = _ENCODER.encode(msgspec.structs.replace(spec, seed=0))
        yield known[ids]


def stratum(record: Record) -> bytes:
    """Encode all that records of one table must share, apart from the budget."""
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
    """Return a finite number as it is; None for what is missing or not finite."""
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def entry_labels(
    refs: Mapping[bytes, EntryRef], declared: Mapping[str, Mapping[str, Param]]
) -> dict[bytes, str]:
    """Name entries by key, each unlike the others; `declared` are their parameters by name."""
    labels = {key: (entry_label(ref, declared.get(ref.name)), ref.version) for key, ref in refs.items()}
    return {key: labels[key][0] + tail for key, tail in tails(labels).items()}


def tails(labels: Mapping[bytes, tuple[str, str]]) -> dict[bytes, str]:
    """Distinguish equal labels: (label, version) by key -> "", "@version" if that does, else "#key"."""
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
