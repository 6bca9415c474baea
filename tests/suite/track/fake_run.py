"""Stands in for training in the tests of the mirror: rows and a record in no time."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import msgspec

from suite.engine.host import Host
from suite.entries.stored_run import StoredRun
from suite.records.schema import Record
from suite.spec import RunSpec
from suite.store.attempt import Attempt
from suite.store.folders import RunFolder, Store
from tests.suite.fake_records import TASK, make_record, make_run

N_ROWS = 8


MEASURED_EVERY = 4
"""Rows, of which the last one carries a measure."""


def row(epoch: int) -> dict[str, Any]:
    measured = {
        "lambda_max": 20.0 / epoch,
        "lambda_max_se_probes": 0.1,
        "lambda_max_se_examples": 0.2,
        "sharpness_train_loss": 2.4 / epoch,
    }
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "lr": 0.1 / epoch,
        "train_loss": 1.0 / epoch,
        "train_accuracy": 1.0 - 0.5 / epoch,
        "sample_gradients": 160 * epoch,
        "validation_loss": 1.5 / epoch,
        "validation_accuracy": 0.9 - 0.5 / epoch,
        **(measured if epoch % MEASURED_EVERY == 0 else {}),
    }


def write_rows(attempt: Attempt, first: int, last: int) -> None:
    attempt.provenance({"task": msgspec.to_builtins(TASK)})
    for epoch in range(first, last + 1):
        attempt.metrics(row(epoch))
        attempt.timing(
            {"epoch": epoch, "step": 10 * epoch, "train_s": 2.0 * epoch, "evaluate_s": 0.5 * epoch}
        )


def record_of(spec: RunSpec) -> Record:
    return make_record(spec, n=100)


def run_one(run: StoredRun, host: Host) -> str:
    folder = run.folder
    with folder.start() as attempt:
        if folder.spec().optimizer.name == "waits":
            write_rows(attempt, 1, 3)
            while not host.stop():
                host.progress({"run_id": folder.run_id})
                time.sleep(0.02)
            return "interrupted"
        write_rows(attempt, 1, N_ROWS)
        attempt.publish(record_of(folder.spec()))
    return "done"


def train_and_tell(run: StoredRun, host: Host) -> str:
    """Train as `steppe run` does, then write down what the process has loaded."""
    from suite.engine.train import run_one as train

    outcome = train(run, host)
    (run.folder.path / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    return outcome


def done(store: Store, spec: RunSpec, n_rows: int = N_ROWS) -> RunFolder:
    """A run of that spec, trained by nobody."""
    folder = make_run(store, spec)
    with folder.start() as attempt:
        write_rows(attempt, 1, n_rows)
        attempt.publish(record_of(spec))
    return folder
