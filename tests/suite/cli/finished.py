"""A store of sound records of the tiny task, which may be published."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from suite.records.schema import Estimate, Record, Sharpness, Sources, SplitResult
from suite.spec import RunSpec
from suite.store.folders import RunFolder, Store
from tests.suite.report.fake_records import description, record, right
from tests.suite.runner import tiny_specs

N_TEST = 50


def record_of(spec: RunSpec, n_correct: int) -> Record:
    """A record of a run that was never trained."""
    share = n_correct / N_TEST
    metrics: dict[str, float | None] = {"accuracy": share, "loss": 0.5}
    found = {
        "test": SplitResult(N_TEST, metrics, metrics, {"accuracy": right(share, N_TEST)}),
        "validation": SplitResult(16, {"accuracy": 0.75, "loss": 0.6}),
    }
    made = record(found=found, described=description("digits", epochs=spec.epochs))
    one = Estimate(2.5, 0.1, 0.2, 32, 8, "test", 1)
    measures = {
        "lambda_max": one,
        "hessian_trace": one,
        "lpf": one,
        "lpf_difference": replace(one, value=2.2),
    }
    gradients = round(90 * spec.epochs)
    return replace(
        made,
        run_id=spec.run_id,
        spec=spec,
        sources=Sources(spec.task.plugin_source or "0" * 64, spec.optimizer.plugin_source or "1" * 64),
        sharpness=Sharpness(32, {"accuracy": 0.875, "loss": 0.3}, measures),
        cost=replace(
            made.cost,
            sample_gradients=float(gradients),
            gradients=gradients,
            steps=6 * round(spec.epochs),
            n_train=90,
            declared=1.0,
            train_s=36.0,
        ),
    )


def finish(store: Store, one: Record) -> RunFolder:
    """Leave what a run leaves that came to this record."""
    folder = store.run(one.run_id)
    folder.write_spec(one.spec)
    with folder.start() as attempt:
        attempt.metrics({"epoch": 1, "step": 6, "lr": 0.1, "train_loss": 1.25, "train_accuracy": 0.5})
        assert attempt.publish(one)
    return folder


def stored(root: Path, records: Iterable[Record]) -> Store:
    made = Store(root)
    for one in records:
        finish(made, one)
    return made


def tiny_records() -> list[Record]:
    """SGD and SAM, three seeds each."""
    return [record_of(spec, 40 + i) for i, spec in enumerate(tiny_specs(["sgd", "sam"], [0, 1, 2]))]
