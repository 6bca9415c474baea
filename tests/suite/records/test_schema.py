"""Records: one definition, read strictly, with a word about what is wrong."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from suite.errors import SteppeError
from suite.records import schema
from tests.suite.report.fake_records import record

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    """Return a record as JSON after a change of its fields."""
    fields = json.loads(schema.to_line(record("sam", 3, 0.5)))
    change(fields)
    return json.dumps(fields).encode()


def message(raw: bytes, run_id: str = "") -> str:
    with pytest.raises(SteppeError) as caught:
        schema.read(raw, "some.jsonl:7", "remove it", run_id)
    return str(caught.value)


def test_what_is_written_is_read_and_written_again_alike() -> None:
    given = record("sam", 3, 0.5)
    line = schema.to_line(given)
    assert line.count(b"\n") == 1
    found = schema.read(line, "a", "b")
    assert found == given
    assert schema.read(schema.to_document(found), "a", "b") == given
    assert schema.to_line(found) == schema.to_line(schema.decode(schema.to_line(found)))


def test_a_record_of_the_first_schema_is_retired() -> None:
    old = changed(lambda fields: fields.update(record_version=1))
    assert message(old) == "some.jsonl:7: record_version is 1, which is retired; valid: 2: remove it"


@pytest.mark.parametrize("version", [3, "2", None])
def test_a_record_of_another_schema_is_unknown(version: Any) -> None:
    other = changed(lambda fields: fields.update(record_version=version))
    assert f"record_version is {version!r}; valid: 2" in message(other)
    assert "record_version is missing; valid: 2" in message(changed(lambda r: r.pop("record_version")))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda r: r["task"]["metrics"][0].update(better="more"),
            "task.metrics[0].better is 'more'; valid: 'higher' or 'lower' or 'neither'",
        ),
        (
            lambda r: r["spec"]["task"].update(name="../../pwn"),
            "spec.task.name is '../../pwn'; valid: str matching regex",
        ),
        (
            lambda r: r["spec"]["optimizer"].update(name="sgd\n"),
            "spec.optimizer.name is 'sgd\\n'; valid: str matching regex",
        ),
        (lambda r: r["results"]["test"].update(n=0), "results.test.n is 0; valid: int >= 1"),
        (lambda r: r["cost"].update(train_s=-1.0), "cost.train_s is -1.0; valid: float >= 0.0"),
        (
            lambda r: r["sharpness"]["measures"]["hessian_trace"].update(value="12"),
            "sharpness.measures.hessian_trace.value is '12'; valid: float | null",
        ),
        (lambda r: r.update(status="stopped"), "status is 'stopped'; valid: 'completed' or 'failed'"),
        (lambda r: r["spec"].pop("seed"), "some.jsonl:7: spec.seed is missing: remove it"),
        (
            lambda r: r.update(surplus=1),
            "some.jsonl:7: surplus is no field; valid: protocol, engine, run_id, spec, task, status",
        ),
        (
            lambda r: r["provenance"]["origin"].update(source_tree="abc"),
            "provenance.origin.source_tree is 'abc'; valid: str matching regex",
        ),
    ],
)
def test_what_is_wrong_is_said_with_where_it_is_and_what_is_valid(change: Change, says: str) -> None:
    found = message(changed(change))
    assert found.startswith("some.jsonl:7: ")
    assert says in found
    assert found.endswith(": remove it")
    assert "\n" not in found


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[" * 5000, b'{"cost": {', schema.to_line(record())[:-40]])
def test_half_a_record_is_no_record(raw: bytes) -> None:
    assert message(raw) == "some.jsonl:7 is half-written or corrupt: remove it"


def test_numbers_that_are_not_finite_are_no_json() -> None:
    assert "corrupt" in message(changed(lambda r: r["cost"].update(train_s=float("nan"))))


def test_a_record_of_another_run_is_not_taken() -> None:
    mine = record("sam", 3, 0.5)
    assert "but its spec is that of" in message(changed(lambda r: r.update(run_id="f" * 16)))
    assert f"but its spec is that of {'e' * 16}" in message(schema.to_line(mine), run_id="e" * 16)


def test_right_and_wrong_are_packed_and_unpacked() -> None:
    packed = bytes([0b10110000, 0b11100000])
    assert schema.unpack_right(schema.pack_right(packed), 11) == packed


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"not zlib").decode(),
        schema.pack_right(bytes(3)),  # too long
        schema.pack_right(bytes(1)),  # too short
        schema.pack_right(bytes([0, 1])),  # a bit beyond the last example
        base64.b64encode(zlib.compress(bytes(2))[:-2]).decode(),  # cut
        base64.b64encode(zlib.compress(bytes(10**6))).decode(),  # a bomb
    ],
)
def test_evidence_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises((ValueError, zlib.error)):
        schema.unpack_right(text, 11)
