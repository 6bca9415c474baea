"""Records read for reporting: what a table needs of each, checked, and which table it belongs to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from suite.errors import SteppeError
from suite.slim import Packer, Part, Path, Shape, Slim, slim, unpacked
from suite.space import Value
from suite.spec import EntryRef, Param, RunSpec, canonical_json, sha256_text


@dataclass(frozen=True)
class TaskInfo:
    """What a report must be told of a task: its tier, its budget in epochs and its declared parameters."""

    tier: str
    epochs: Callable[[Mapping[str, Value]], float]
    """The budget for given parameters of the task: a family may tie it to them."""
    params: Mapping[str, Param] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What the seeds of one setting have in common: their spec, and where in a leaderboard they belong."""

    spec: RunSpec
    """Of one of them."""
    split: str
    task_source: str
    optimizer_source: str

    @cached_property
    def stratum(self) -> str:
        """Name all that records of one table must share, beside the budget, as a hash."""
        spec = self.spec.to_dict()
        keys = ("task", "data", "data_checksum", "protocol", "precision", "device", "compile")
        shared = [*(spec[key] for key in keys), self.split, self.task_source]
        return sha256_text(canonical_json([*shared, self.spec.ranks] if self.spec.ranks > 1 else shared))

    @cached_property
    def optimizer_key(self) -> str:
        """Name the resolved optimizer, its version and source included, as a hash."""
        return sha256_text(canonical_json([self.spec.to_dict()["optimizer"], self.optimizer_source]))

    @cached_property
    def set_up(self) -> str:
        """Name all of the spec but the seed: within a stratum, how runs of one optimizer were executed."""
        spec = {key: value for key, value in self.spec.to_dict().items() if key != "seed"}
        return canonical_json(spec)

    @cached_property
    def epochs(self) -> float:
        """Epochs by which runs of one optimizer are told apart."""
        return round(self.spec.epochs, 3)


@dataclass(frozen=True, eq=False)
class Kind:
    """What the records of one shape have in common: all that tables show but some numbers and the seed."""

    setting: Setting
    shape: Shape
    failed: bool
    measures: tuple[str, ...]
    examples: Mapping[str, int]
    """By measure, the number of examples that it was estimated on."""
    sample_gradients: int
    n_train: int
    declared: float
    steps: int
    fingerprint: str
    same: Mapping[Path, float | None]
    """The numbers that are the same in all of them, by where they stand in the record."""

    def planned_sample_gradients(self) -> float:
        """Cost of the whole run: metered if it ended, else what its entry declares."""
        if not self.failed:
            return self.sample_gradients
        return self.setting.spec.epochs * self.n_train * self.declared


class Run(NamedTuple):
    """One record, reduced to what tables show."""

    kind: Kind
    run_id: str
    seed: int
    packed: bytes
    """Its numbers, as `suite.slim` keeps them."""

    @property
    def setting(self) -> Setting:
        """What it shares with the other seeds."""
        return self.kind.setting

    @property
    def failed(self) -> bool:
        """Whether it diverged."""
        return self.kind.failed


class Columns:
    """The numbers of some runs, column by column. Runs are sorted by kind, and else in the order given."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.by_kind: dict[Kind, list[Run]] = {}
        for run in runs:
            self.by_kind.setdefault(run.kind, []).append(run)
        self._numbers = {
            kind: unpacked(b"".join([run.packed for run in some])) for kind, some in self.by_kind.items()
        }

    def of(self, *path: str) -> list[float]:
        """Read one number, by the keys that lead to it in a record, of each of the runs that have it."""
        found: list[float] = []
        for kind, some in self.by_kind.items():
            at = kind.shape.place(*path)
            if at is not None:
                found += self._numbers[kind][at :: kind.shape.n_floats]
            elif (same := kind.same.get(path)) is not None:
                found += [same] * len(some)
        return found


class Reader:
    """Reads records for tables; what those of one shape have in common is read once."""

    def __init__(self) -> None:
        self._packer = Packer()
        self._kinds: dict[Shape, Kind] = {}
        self._settings: dict[tuple[Part, str, str, str], Setting] = {}

    def read(self, record: Mapping[str, Any]) -> Run:
        """Read one record; SteppeError names the record and the field that is missing or wrong."""
        try:
            packed = record if isinstance(record, Slim) else self._packer.pack(slim(record))
            return self._run(self._kinds.get(packed.shape) or self._kind(packed), packed)
        except (KeyError, TypeError, ValueError, AttributeError, SteppeError) as error:
            name = record.get("run_id", "without a run_id")
            raise SteppeError(
                f"record {name}: a field is missing or wrong ({type(error).__name__}: {error}); "
                f"`steppe validate` names every one, or leave the record out"
            ) from None

    def read_alike(self, record: Mapping[str, Any]) -> Run | None:
        """Read a record if one of its shape was read before."""
        kind = self._kinds.get(record.shape) if isinstance(record, Slim) else None
        return self._run(kind, record) if kind is not None and isinstance(record, Slim) else None

    @staticmethod
    def _run(kind: Kind, record: Slim) -> Run:
        seed = kind.setting.spec.seed if record.seed is None else record.seed
        run_id = record.run_id or replace(kind.setting.spec, seed=seed).run_id
        return Run(kind, run_id, seed, record.packed)

    def _kind(self, record: Slim) -> Kind:
        shape = record.shape
        failed = {"completed": False, "failed": True}[record["status"]]
        cost, sharpness = record["cost"], record.get("sharpness") or {}
        results = {("results", key): number(value) for key, value in (record.get("results") or {}).items()}
        if not failed and results["results", "test_accuracy"] is None:
            raise KeyError("test_accuracy")
        measures = {key: dict(value) for key, value in (sharpness.get("measures") or {}).items()}
        found = results | {
            ("sharpness", "measures", name, key): number(measured.get(key))
            for name, measured in measures.items()
            for key in ("value", "se_probes", "se_examples")
        }
        found |= {("sharpness", "train_loss"): number(sharpness.get("train_loss")),
                  ("cost", "train_s"): number(cost.get("train_s"))}  # fmt: skip
        kind = Kind(
            setting=self._setting(record),
            shape=shape,
            failed=failed,
            measures=tuple(measures),
            examples={name: int(measured.get("n", 0)) for name, measured in measures.items()},
            sample_gradients=int(cost["sample_gradients"]),
            n_train=int(cost["n_train"]),
            declared=float(cost["declared"]),
            steps=int(cost["steps"]),
            fingerprint=str((record.get("provenance") or {}).get("fingerprint", "")),
            same={path: value for path, value in found.items() if shape.place(*path) is None},
        )
        taken: list[Path] = [("cost", key) for key in ("sample_gradients", "n_train", "declared", "steps")]
        taken += [("sharpness", "measures", name, "n") for name in measures]
        if all(shape.place(*path) is None for path in taken):  # else they are this record's alone
            self._kinds[shape] = kind
        return kind

    def _setting(self, record: Slim) -> Setting:
        data, entries = record.get("data") or {}, record.get("entries") or {}
        split = f"{data.get('split_checksum')} {data.get('noise_checksum')}"
        sources = str(entries.get("task")), str(entries.get("optimizer"))
        key = (record.shape.parts["spec"], split, *sources)
        if key not in self._settings:
            self._settings[key] = Setting(RunSpec.from_dict(record["spec"]), split, *sources)
        return self._settings[key]


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
