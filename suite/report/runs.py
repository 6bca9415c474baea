"""Records read for reporting: what tells which of them may share a table and a row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from suite.schema import Record
from suite.spec import EntryRef, Param, sha256_text

_ENCODER = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, eq=False)
class Run:
    """One record, and the keys that it is sorted by."""

    record: Record

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.record.run_id

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.record.spec.seed

    @property
    def failed(self) -> bool:
        """Whether it has no results."""
        return self.record.failed

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

    @cached_property
    def stratum(self) -> bytes:
        """Tell all that records of one table must share, apart from the budget."""
        record, spec = self.record, self.record.spec
        conditions = spec.data, spec.data_checksum, spec.protocol, spec.engine, spec.precision, spec.device
        execution = spec.compile, spec.ranks
        return _ENCODER.encode(
            (spec.task, *conditions, *execution, record.data, record.sources.task, record.task)
        )

    @cached_property
    def optimizer_key(self) -> bytes:
        """Tell the resolved optimizer, its version and source included."""
        return _ENCODER.encode((self.record.spec.optimizer, self.record.sources.optimizer))

    @cached_property
    def set_up(self) -> bytes:
        """Tell all of the spec but the seed: within a stratum, how runs of one optimizer were executed."""
        return _ENCODER.encode(msgspec.structs.replace(self.record.spec, seed=0))

    @cached_property
    def epochs(self) -> float:
        """Epochs by which runs of one optimizer are told apart."""
        return round(self.record.spec.epochs, 3)

    def planned_sample_gradients(self) -> float:
        """Cost of the whole run: metered if it ended, else what its entry declares."""
        cost = self.record.cost
        if not self.failed:
            return cost.sample_gradients
        return self.record.spec.epochs * cost.n_train * cost.declared


def number(value: Any) -> float | None:
    """Return a finite number as it is; None for what is missing or not finite."""
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def entry_label(ref: EntryRef, declared: Mapping[str, Param] | None) -> str:
    """Name an entry and the parameters that differ from the defaults; all if it declares others now."""
    if declared is not None and declared.keys() == ref.params.keys():
        return ref.label(declared)
    return ref.label()


def tails(labels: Mapping[bytes, tuple[str, str]]) -> dict[bytes, str]:
    """Tell like labels apart: (label, version) by key -> "", "@version" if two are alike, "#key" if still."""
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
