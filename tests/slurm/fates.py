"""What became of runs, for comparing a sweep that was struck by faults with one that was not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from suite.store.folders import RunFolder
from suite.store.lease import attempt_numbers
from tests.suite.workers.test_sweep import deterministic


@dataclass(frozen=True)
class Fate:
    """All of a run that must not depend on what happened to it, and how often it was begun."""

    record: str | None
    metrics: str
    weights: str
    published: int
    """Attempts that made a record: one, if the fence holds."""
    attempts: int


def fate(folder: RunFolder) -> Fate:
    numbers = attempt_numbers(folder.path)
    published = sum((folder.path / "attempts" / str(n) / "result.json").exists() for n in numbers)
    if folder.record() is None:
        return Fate(None, "", "", published, len(numbers))
    metrics, record = deterministic(folder)
    digest = hashlib.sha256(metrics).hexdigest()
    return Fate(record.decode(), digest, weights(folder), published, len(numbers))


def weights(folder: RunFolder) -> str:
    """A digest of the final weights and running statistics."""
    state = folder.last_state()
    assert state is not None
    digest = hashlib.sha256()
    for name, tensor in sorted(state["model"].items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def compare(wanted: Mapping[str, Fate], found: Mapping[str, Fate]) -> dict[str, list[str]]:
    """Runs that have no record, that have more than one, or whose bytes differ."""
    return {
        "lost": sorted(run for run in wanted if run not in found or found[run].record is None),
        "duplicated": sorted(
            [run for run, one in found.items() if one.published > 1] + list(found.keys() - wanted.keys())
        ),
        "differing": sorted(
            run
            for run in wanted.keys() & found.keys()
            if found[run].record is not None and same(wanted[run]) != same(found[run])
        ),
    }


def same(one: Fate) -> tuple[str | None, str, str]:
    return one.record, one.metrics, one.weights
