"""Specs and records of runs that nobody trained, for the tests of the store."""

from __future__ import annotations

from typing import Any

from suite.spec import EntryRef, RunSpec
from suite.store import RunFolder, Store


def make_spec(seed: int = 0, optimizer: str = "sgd", **params: Any) -> RunSpec:
    return RunSpec(
        task=EntryRef("task", "1", {}),
        optimizer=EntryRef(optimizer, "1", {"lr": 0.1, **params}),
        seed=seed,
        data="digits",
        data_checksum="c" * 64,
        epochs=2.0,
    )


def make_record(spec: RunSpec, status: str = "completed", **results: Any) -> dict[str, Any]:
    return {
        "record_version": 1,
        "run_id": spec.run_id,
        "spec": spec.to_dict(),
        "status": status,
        "failure": None,
        "results": {"test_accuracy": 0.5, **results},
        "correct": "eJwDAAAAAAE=",
        "provenance": {"fingerprint": "cpu", "versions": {"torch": "2.15.0"}, "attempts": 1},
    }


def make_run(store: Store, spec: RunSpec) -> RunFolder:
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    return folder


def begin(store: Store, spec: RunSpec) -> RunFolder:
    """Leave what a run that was interrupted after its first epoch leaves."""
    folder = make_run(store, spec)
    with folder.start() as attempt:
        attempt.metrics({"epoch": 1, "step": 1})
    return folder


def finish(store: Store, spec: RunSpec, status: str = "completed", **results: Any) -> RunFolder:
    folder = make_run(store, spec)
    with folder.start() as attempt:
        assert attempt.publish(make_record(spec, status, **results))
    return folder
