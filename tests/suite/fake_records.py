"""Made-up specs and records of runs, for the tests of the store."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from suite.metric import ACCURACY, LOSS, Description
from suite.records.schema import (
    Cost,
    Estimate,
    Failure,
    Origin,
    Provenance,
    Record,
    Sharpness,
    Sources,
    SplitResult,
    pack_right,
)
from suite.spec import EntryRef, RunSpec
from suite.store.folders import RunFolder, Store

TASK = Description(tier="smoke", epochs=2.0, metrics=(ACCURACY, LOSS))
"""Declarations of the task of these runs."""

N_TEST = 50


def make_spec(seed: int = 0, optimizer: str = "sgd", **params: Any) -> RunSpec:
    return RunSpec(
        task=EntryRef("task", "1", {}),
        optimizer=EntryRef(optimizer, "1", {"lr": 0.1, **params}),
        seed=seed,
        data="digits",
        data_checksum="c" * 64,
        epochs=2.0,
    )


def make_record(
    spec: RunSpec, status: str = "completed", *, accuracy: float = 0.5, n: int = N_TEST, **changes: Any
) -> Record:
    """Return a full record; `accuracy`: on the test split; `changes`: other fields of the record."""
    ended = {} if status == "failed" else {"results": results(accuracy, n), "sharpness": sharpness()}
    failure = Failure("diverged", 12, "the training loss is not finite") if status == "failed" else None
    gradients = round(90 * spec.epochs)
    fields: dict[str, Any] = {
        "protocol": spec.protocol,
        "engine": spec.engine,
        "run_id": spec.run_id,
        "spec": spec,
        "task": TASK,
        "status": status,
        "failure": failure,
        **ended,
        "cost": Cost(
            sample_gradients=float(gradients),
            gradients=gradients,
            losses=0,
            function=0.0,
            forward_only=100,
            steps=6 * round(spec.epochs),
            n_train=90,
            declared=1.0,
            train_s=36.0,
            evaluate_s=3.0,
            measure_s=1.0,
        ),
        "sources": Sources(spec.task.plugin_source or "0" * 64, spec.optimizer.plugin_source or "1" * 64),
        "data": {"split_checksum": "2" * 64},
        "provenance": Provenance(
            origin=Origin(
                source_tree="3" * 64, git_commit=None, fingerprint="cpu: some processor, torch 2.15.0"
            ),
            versions={"torch": "2.15.0"},
            hardware={"cpu": "some processor"},
            bit_exact=True,
            attempts=1,
        ),
    }
    return Record(**{**fields, **changes})


def results(accuracy: float, n: int = N_TEST) -> dict[str, SplitResult]:
    """Return the results of an image task with round(accuracy * n) correct test examples."""
    n_right = round(accuracy * n)
    bits = ((1 << n_right) - 1 << -n % 8).to_bytes(-(-n // 8), "big")
    metrics: dict[str, float | None] = {"accuracy": accuracy, "loss": 0.5}
    return {
        "test": SplitResult(n, metrics, metrics, {"accuracy": pack_right(bits)}),
        "validation": SplitResult(16, {"accuracy": 0.75, "loss": 0.6}),
    }


def sharpness() -> Sharpness:
    """Return all four measures, consistent with the loss on their examples."""
    values = {"lambda_max": 2.5, "hessian_trace": 2.5, "lpf": 2.5, "lpf_difference": 2.2}
    measures = {
        name: Estimate(value, 0.1, 0.2, n=32, probes=8, estimator="test", version=1)
        for name, value in values.items()
    }
    return Sharpness(32, {"accuracy": 0.875, "loss": 0.3}, measures)


def stable(record: Record) -> Record:
    """Reset the fields that may differ between two executions of a run: times and number of attempts."""
    cost = replace(record.cost, train_s=0.0, evaluate_s=0.0, measure_s=0.0)
    return replace(record, cost=cost, provenance=replace(record.provenance, attempts=1))


def edit(folder: RunFolder, **changes: Any) -> None:
    """Replace fields of the record of a run."""
    record = folder.record()
    assert record is not None
    folder.replace_record(replace(record, **changes))


def make_run(store: Store, spec: RunSpec) -> RunFolder:
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    return folder


def begin(store: Store, spec: RunSpec) -> RunFolder:
    """Write the files of a run that was interrupted after its first epoch."""
    folder = make_run(store, spec)
    with folder.start() as attempt:
        attempt.metrics({"epoch": 1, "step": 1})
    return folder


def finish(store: Store, spec: RunSpec, status: str = "completed", **options: Any) -> RunFolder:
    """Write the files of a finished run; `options` are those of `make_record`."""
    folder = make_run(store, spec)
    with folder.start() as attempt:
        assert attempt.publish(make_record(spec, status, **options))
    return folder
