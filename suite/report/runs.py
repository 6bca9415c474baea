"""Records read for reporting: what a table needs of each, checked, and which table it belongs to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from suite.errors import SteppeError
from suite.spec import EntryRef, Param, RunSpec, Value, canonical_json, sha256_text


@dataclass(frozen=True)
class TaskInfo:
    """What a report must be told of a task: its tier, its budget in epochs and its declared parameters."""

    tier: str
    epochs: Callable[[Mapping[str, Value]], float]
    """The budget for given parameters of the task: a family may tie it to them."""
    params: Mapping[str, Param] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One record, reduced to what tables show. Numbers that a record lacks are None."""

    spec: RunSpec
    failed: bool
    results: Mapping[str, float | None]
    train_loss: float | None
    measures: Mapping[str, Mapping[str, Any]]
    sample_gradients: int
    n_train: int
    declared: float
    steps: int
    train_s: float | None
    fingerprint: str
    split: str
    task_source: str
    optimizer_source: str

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.spec.seed

    def measure(self, name: str, key: str) -> float | None:
        """Return one number of a measure's estimate."""
        return number(self.measures.get(name, {}).get(key))

    def stratum(self) -> str:
        """Name all that records of one table must share, beside the budget, as a hash."""
        spec = self.spec.to_dict()
        keys = ("task", "data", "data_checksum", "protocol", "precision", "device", "compile")
        return sha256_text(canonical_json([*(spec[key] for key in keys), self.split, self.task_source]))

    def optimizer_key(self) -> str:
        """Name the resolved optimizer, its version and source included, as a hash."""
        return sha256_text(canonical_json([self.spec.to_dict()["optimizer"], self.optimizer_source]))

    def planned_sample_gradients(self) -> float:
        """Cost of the whole run: metered if it ended, else what its entry declares."""
        return self.spec.epochs * self.n_train * self.declared if self.failed else self.sample_gradients


def read_run(record: Mapping[str, Any]) -> Run:
    """Read one record; SteppeError names the record and the field that is missing or wrong."""
    name = str(record.get("run_id", "without a run_id"))
    try:
        spec = RunSpec.from_dict(record["spec"])
        failed = {"completed": False, "failed": True}[record["status"]]
        cost, sharpness = record["cost"], record.get("sharpness") or {}
        results = {key: number(value) for key, value in (record.get("results") or {}).items()}
        if not failed and results["test_accuracy"] is None:
            raise KeyError("test_accuracy")
        data, entries = record.get("data") or {}, record.get("entries") or {}
        return Run(
            spec=spec,
            failed=failed,
            results=results,
            train_loss=number(sharpness.get("train_loss")),
            measures={key: dict(value) for key, value in (sharpness.get("measures") or {}).items()},
            sample_gradients=int(cost["sample_gradients"]),
            n_train=int(cost["n_train"]),
            declared=float(cost["declared"]),
            steps=int(cost["steps"]),
            train_s=number(cost.get("train_s")),
            fingerprint=str((record.get("provenance") or {}).get("fingerprint", "")),
            split=f"{data.get('split_checksum')} {data.get('noise_checksum')}",
            task_source=str(entries.get("task")),
            optimizer_source=str(entries.get("optimizer")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, SteppeError) as error:
        raise SteppeError(
            f"record {name}: a field is missing or wrong ({type(error).__name__}: {error}); "
            f"`steppe validate` names every one, or leave the record out"
        ) from None


def number(value: Any) -> float | None:
    """Return a finite number as it is; None for what is missing or not finite."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def entry_label(ref: EntryRef, declared: Mapping[str, Param] | None) -> str:
    """Name an entry and the parameters that differ from the defaults; all if it declares others now."""
    if declared is not None and declared.keys() == ref.params.keys():
        return ref.label(declared)
    return ref.label()


def tails(labels: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Tell like labels apart: (label, version) by key -> "", "@version" if two are alike, "#key" if still."""
    out = dict.fromkeys(labels, "")
    for further in ({key: f"@{version}" for key, (_, version) in labels.items()},
                    {key: f"#{key[:6]}" for key in labels}):  # fmt: skip
        seen = Counter(labels[key][0] + out[key] for key in labels)
        out = {
            key: tail + further[key] if seen[labels[key][0] + tail] > 1 else tail for key, tail in out.items()
        }
    return out
