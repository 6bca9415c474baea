"""What may be published: whole records that agree with themselves and that leaderboards can read."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suite.errors import SteppeError
from suite.published import check_published, numbered_lines, read_line
from suite.report import leaderboard
from suite.report.runs import TaskInfo
from suite.spec import RunSpec
from tests.suite.cli.conftest import record_of
from tests.suite.records import make_spec

Record = dict[str, Any]

COMMITTED = sorted((Path(__file__).resolve().parents[2] / "results" / "records").glob("*.jsonl"))
GONE = object()
FAILURE = {"kind": "diverged", "step": 12, "reason": "not finite"}
FAILED: Record = {"status": "failed", "failure": FAILURE, "results": {}, "sharpness": {}, "correct": ""}


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def changed(record: Record, field: str, value: Any) -> Record:
    """Copy a record with another value in one field, named by its keys; its id is that of its spec."""
    out = copy.deepcopy(record)
    *keys, last = field.split(".")
    part = out
    for key in keys:
        part = part[key]
    if value is GONE:
        del part[last]
    else:
        part[last] = value
    if keys[:1] == ["spec"]:
        out["run_id"] = RunSpec.from_dict(out["spec"]).run_id
    return out


def check(record: Record) -> None:
    """Check a record as it is read from a line."""
    where = Path("task.jsonl:1")
    check_published(read_line(json.dumps(record), where), where)


@pytest.fixture
def record() -> Record:
    """A sound record: 40 of 50 examples are right."""
    return record_of(make_spec(), 40)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        FAILED,
        {"perturbation_cosine": {"first": 1.0, "last": 0.99}},
        {"results.validation_accuracy_clean": 0.5},
        {"results.test_loss": None},
        {"sharpness.measures.lambda_max.value": None},
        {"spec.ranks": 2},
    ],
)
def test_what_the_suite_writes_is_sound(record: Record, changes: Record) -> None:
    for field, value in changes.items():
        record = changed(record, field, value)
    check(record)


def test_what_was_published_stays_sound() -> None:
    lines = [found for path in COMMITTED for found in numbered_lines(path)]
    assert len(lines) >= 140
    for where, line in lines:
        check_published(read_line(line, where), where)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("cost", GONE, "cost is missing"),
        ("data", GONE, "data is missing"),
        ("results", None, "results is None, not a table"),
        ("cost.declared", GONE, "cost.declared is missing"),
        ("results.validation_accuracy", GONE, "results.validation_accuracy is missing"),
        ("results.path", "/home/me/secret", "results.path is not a field of a record"),
        ("cost.host", "node7", "cost.host is not a field of a record"),
        ("sharpness.path", "/home/me", "sharpness.path is not a field of a record"),
        ("sharpness.measures.lambda_max.by", "me", "measures.lambda_max.by is not a field of a record"),
        ("cost.n_train", 0, "cost.n_train is 0, not a whole number above 0"),
        ("cost.n_train", 10**400, "OverflowError"),
        ("cost.steps", True, "cost.steps is True, not a number of at least 0"),
        ("cost.sample_gradients", "360", "cost.sample_gradients is '360', not a number of at least 0"),
        ("cost.train_s", -0.5, "cost.train_s is -0.5, not a number of at least 0"),
        ("cost.train_s", float("inf"), "not JSON compliant"),
        ("sharpness.measures.lambda_max.value", "big", "lambda_max.value is 'big', not a number or null"),
        ("results.n_test", -8, "results.n_test is -8, not a whole number above 0"),
        ("results.validation_accuracy", 7.0, "validation_accuracy is 7.0, not a number from 0 to 1"),
        ("results.test_accuracy", 1.02, "test_accuracy is 1.02, not a number from 0 to 1"),
        ("results.test_accuracy", 0.805, "test_accuracy 0.805 is not the 40 of 50 examples"),
        ("correct", packed(b"\xff" * 5), "correct does not hold the 50 examples"),
        ("correct", packed(b"\xff" * 5 + b"\0" * 3), "correct does not hold the 50 examples"),
        ("correct", packed(b"\xff" * 5 + b"\0" * 2)[:-4], "correct does not hold the 50 examples"),
        ("correct", packed(b"\xff" * 4 + b"\xfc\0\x03"), "correct counts more than the 50 examples"),
        ("correct", "/home/me", "a field is missing or wrong"),
        ("protocol", "fair-9.9", "protocol 'fair-9.9' is not 'fair-0.1', that of its spec"),
        ("failure", FAILURE, "which does not fit its status, completed"),
        ("spec.epochs", "many", "spec.epochs is 'many', not a number of at least 0"),
        ("spec.task.name", ["task"], "spec.task.name is ['task'], not a text"),
    ],
)
def test_what_is_missing_or_false_is_named(record: Record, field: str, value: Any, says: str) -> None:
    with pytest.raises(SteppeError) as error:
        check(changed(record, field, value))
    assert str(error.value).startswith("task.jsonl:1: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", ["results", "sharpness", "correct"])
def test_a_failed_run_has_no_results(record: Record, kept: str) -> None:
    with pytest.raises(SteppeError, match=f"{kept} is not empty, but the run failed"):
        check({**record, **FAILED, kept: record[kept]})


def test_a_failed_run_says_what_failed(record: Record) -> None:
    with pytest.raises(SteppeError, match="failure is None, which does not fit its status, failed"):
        check({**record, **FAILED, "failure": None})


def fields(part: Record, above: str = "") -> Iterator[str]:
    for key, value in part.items():
        yield f"{above}{key}"
        if isinstance(value, dict) and value:
            yield from fields(value, f"{above}{key}.")


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_what_is_sound_can_be_read_for_a_leaderboard(record: Record, status: str) -> None:
    tasks = {"task": TaskInfo("smoke", lambda _: 2.0)}
    before = record if status == "completed" else {**record, **FAILED}
    n_sound = 0
    for field in fields(before):
        for value in (GONE, None, 0, -1.5, 2, 1e308, 10**400, True, "many", [], [1], {}, {"a": 1}):
            try:
                after = changed(before, field, value)
                check(after)
            except SteppeError:
                continue
            leaderboard.build([after], tasks, {}, "steppe leaderboard")
            n_sound += 1
    assert n_sound > 100
