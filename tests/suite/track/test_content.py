"""What W&B gets of a run, without W&B."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from suite.metric import LOSS, Description, Metric
from suite.records.schema import SplitResult
from suite.spec import EntryRef, RunSpec
from suite.store.folders import Store
from suite.track import content
from tests.suite.fake_records import make_record, make_run, make_spec
from tests.suite.track.fake_run import done, write_rows

LONE = "\udce9"
"""Half a character, as the command line hands on a byte that is not UTF-8."""


def test_a_run_that_was_stopped_while_it_loaded_keeps_its_rows(tmp_path: Path) -> None:
    folder = make_run(Store(tmp_path), make_spec())
    with folder.start() as attempt:
        write_rows(attempt, 1, 3)
    with folder.start():
        pass
    found = content.read(folder)
    assert found is not None
    assert [row["step"] for row in found.rows] == [10, 20, 30]


def test_every_text_of_the_config_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = EntryRef("task", "1", {})
    spec = RunSpec(task=ref, optimizer=ref, seed=0, data="digits", data_checksum="c" * 64, epochs=1.0)
    monkeypatch.setattr(RunSpec, "to_dict", lambda _: {LONE: LONE, "list": [LONE, {"inner": LONE}]})
    config = content.settings_of(spec, content.Labels("task", "optimizer"))["config"]
    assert config == {"?": "?", "list": ["?", {"inner": "?"}]}


RECOVERY = Metric("recovery_error", "lower", scale="log", floor=1e-12)
ODD = Description(
    "smoke",
    2.0,
    metrics=(RECOVERY, LOSS),
    tests=("test", "shifted"),
    validation="dev",
    facts=(Metric("share_at_edge", "neither", "%"),),
    columns=(Metric("lr_lambda", "neither"), Metric("train_share", "higher")),
)
"""A task that classifies nothing."""


def test_every_column_of_the_rows_arrives(tmp_path: Path) -> None:
    folder = make_run(Store(tmp_path), make_spec())
    with folder.start() as attempt:
        attempt.provenance({"task": msgspec.to_builtins(ODD)})
        attempt.metrics(
            {
                "epoch": 1,
                "step": 6,
                "lr": 0.1,
                "train_loss": 1.0,
                "train_recovery_error": 2.0,
                "sample_gradients": 90 / 3,
                "dev_recovery_error": 3.0,
                "dev_loss": 4.0,
                "lambda_max": 5.0,
                "lambda_max_se_probes": 6.0,
                "sharpness_train_loss": 7.0,
                "lr_lambda": 8.0,
                "train_share": None,
            }
        )
        attempt.metrics({"epoch": 2, "step": 12, "train_share": 9.0})
        attempt.timing({"epoch": 1, "step": 6, "train_s": 10.0})
    found = content.read(folder)
    assert found is not None
    assert found.rows[0] == {
        "epoch": 1,
        "step": 6,
        "lr": 0.1,
        "train/loss": 1.0,
        "train/recovery_error": 2.0,
        "sample_gradients": 30.0,
        "dev/recovery_error": 3.0,
        "dev/loss": 4.0,
        "sharpness/lambda_max": 5.0,
        "sharpness/lambda_max_se_probes": 6.0,
        "sharpness/train_loss": 7.0,
        "task/lr_lambda": 8.0,
        "seconds/train": 10.0,
    }
    assert found.rows[1] == {"epoch": 2, "step": 12, "task/train_share": 9.0}
    assert found.summary == {"status": "interrupted"}


def test_the_summary_has_every_result(tmp_path: Path) -> None:
    spec = make_spec()
    result = SplitResult(40, {"recovery_error": 1e-3, "loss": None})
    results = dict.fromkeys(("test", "shifted", "dev"), result)
    record = make_record(spec, task=ODD, results=results, facts={"share_at_edge": 0.25}, sharpness=None)
    folder = make_run(Store(tmp_path), spec)
    with folder.start() as attempt:
        attempt.publish(record)
    found = content.read(folder)
    assert found is not None
    shown = {key: value for key, value in found.summary.items() if not key.startswith("cost/")}
    assert shown == {
        "status": "completed",
        **{f"{split}/n": 40 for split in results},
        **{f"{split}/recovery_error": 1e-3 for split in results},  # no standard error: it counts nothing
        "facts/share_at_edge": 0.25,
    }
    assert found.summary["cost/losses"] == 0


def test_a_standard_error_comes_with_evidence_only(tmp_path: Path) -> None:
    found = content.read(done(Store(tmp_path), make_spec()))
    assert found is not None
    assert found.summary["test/accuracy"] == found.summary["test/accuracy_as_trained"] == 0.5
    assert found.summary["test/accuracy_se"] == pytest.approx(0.05)  # 100 examples
    assert [key for key in found.summary if key.endswith("_se")] == ["test/accuracy_se"]


def test_rows_of_an_attempt_that_told_nothing_of_its_task_arrive(tmp_path: Path) -> None:
    folder = make_run(Store(tmp_path), make_spec())
    with folder.start() as attempt:
        attempt.metrics({"epoch": 1, "step": 6, "train_loss": 1.0, "validation_accuracy": 0.5})
    found = content.read(folder)
    assert found is not None
    assert found.rows == ({"epoch": 1, "step": 6, "train/loss": 1.0, "task/validation_accuracy": 0.5},)
