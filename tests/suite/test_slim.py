"""A record taken apart is read like the record."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from suite.slim import Packer, slim
from tests.suite.records import make_record, make_spec

RECORDS: list[dict[str, Any]] = [
    make_record(make_spec(3), test_accuracy=0.1 + 0.2, n=3, none=None, flag=True, lines=[1.5, [2.5], "x"]),
    make_record(make_spec(2**60), **{"\0": "\0", "a": "\0\0seed", "b": {"": -0.0}, "c": "\\u0000"}),
    {"run_id": "x", "spec": {"seed": "7", "what": "\0"}, "status": 1.5, "cost": {"declared": 2.0, "s": 2.0}},
    {"run_id": "x", "spec": {"seed": 7, "epochs": 1.5}},
    {"spec": None, "results": {"huge": 1e308, "tiny": 5e-324, "whole": 2.0, "big": 2**70}},
    {},
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_packed_record_reads_like_the_record(record: dict[str, Any]) -> None:
    packed = Packer().pack(record)
    assert dict(packed) == record
    assert list(packed) == list(record)
    assert len(packed) == len(record)
    assert json.dumps(dict(packed)) == json.dumps(record)  # types and signs, too
    assert packed.get("nothing") is None
    with pytest.raises(KeyError):
        packed["nothing"]


def test_numbers_that_are_not_finite_stay_what_they_are() -> None:
    packed = Packer().pack({"results": {"a": math.nan, "b": math.inf, "c": 0.5}})
    assert math.isnan(packed["results"]["a"])
    assert packed["results"]["b"] == math.inf
    assert list(packed.numbers) == [0.5]


def test_seeds_of_one_setting_share_their_shape_and_others_do_not() -> None:
    packer = Packer()
    one, two = (packer.pack(make_record(make_spec(seed), test_accuracy=seed / 7)) for seed in (1, 2))
    other = packer.pack(make_record(make_spec(1, rho=0.1), test_accuracy=0.5))
    failed = packer.pack(make_record(make_spec(3), status="failed"))
    assert one.shape is two.shape
    assert len({one.shape, other.shape, failed.shape}) == 3
    assert one["spec"]["optimizer"] is two["spec"]["optimizer"]
    assert (one["spec"]["seed"], two["spec"]["seed"]) == (1, 2)


def test_places_tell_where_a_number_stands() -> None:
    record = {"run_id": "x", "a": {"b": 0.5, "n": 3, "c": {"d": 1.5}}, "e": 2.5, "cost": {"declared": 1.5}}
    packed = Packer().pack(record)
    places = {path: packed.shape.place(*path) for path in (("a", "b"), ("a", "c", "d"), ("e",))}
    assert {path: packed.numbers[at or 0] for path, at in places.items()} == {
        ("a", "b"): 0.5, ("a", "c", "d"): 1.5, ("e",): 2.5
    }  # fmt: skip
    for path in (("a", "n"), ("a",), ("z",), ("run_id",), ("cost", "declared")):
        assert packed.shape.place(*path) is None


def test_slim_leaves_out_what_no_table_shows() -> None:
    record = make_record(make_spec())
    assert slim(record).keys() == record.keys() - {"correct"}
    assert slim(record)["provenance"] == {"fingerprint": "cpu", "attempts": 1}
    assert "correct" in record
