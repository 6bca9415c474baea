"""The index lists what the folders hold, whatever happened to it or to them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from suite.store import Store
from tests.suite.records import finish, make_record, make_run, make_spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for seed in range(5):
        finish(store, make_spec(seed=seed), test_accuracy=seed / 10)
    return store


def listed(store: Store) -> list[int]:
    records = store.index()
    assert records.skipped == ()
    assert [r["run_id"] for r in records] == sorted(r["run_id"] for r in records)
    return sorted(record["spec"]["seed"] for record in records)


def lines(store: Store) -> list[str]:
    return (store.root / "index.jsonl").read_text().splitlines()


def test_records_are_slim(store: Store) -> None:
    assert listed(store) == [0, 1, 2, 3, 4]
    for record in store.index():
        assert "correct" not in record
        assert record["provenance"] == {"fingerprint": "cpu", "attempts": 1}
        assert record["results"] == {"test_accuracy": record["spec"]["seed"] / 10}


def test_a_listing_reads_no_record_that_is_indexed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from suite import index

    monkeypatch.setattr(index, "read_record", lambda _: pytest.fail("read a record"))
    assert listed(store) == [0, 1, 2, 3, 4]


def test_a_record_published_but_not_indexed_is_found_once(store: Store) -> None:
    kept = lines(store)[:3]
    (store.root / "index.jsonl").write_text("".join(f"{line}\n" for line in kept))
    assert listed(store) == [0, 1, 2, 3, 4]
    assert len(lines(store)) == 5


@pytest.mark.parametrize("cut", [1, 2, 30, 400])
def test_a_torn_line_is_mended(store: Store, cut: int) -> None:
    path = store.root / "index.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    finish(store, make_spec(seed=5))  # appends after the torn line
    assert listed(store) == [0, 1, 2, 3, 4, 5]
    assert listed(store) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe garbage\n{}\n[1]\nnull\n", b'["a", 1, 2, {}]\n'])
def test_a_lost_or_foreign_index_is_made_anew(store: Store, content: bytes | None) -> None:
    path = store.root / "index.jsonl"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert listed(store) == [0, 1, 2, 3, 4]
    healed = path.read_bytes()
    assert listed(store) == [0, 1, 2, 3, 4]
    assert path.read_bytes() == healed


def test_a_deleted_run_and_a_deleted_record_leave_the_list(store: Store) -> None:
    shutil.rmtree(store.run(make_spec(seed=1).run_id).path)
    (store.run(make_spec(seed=2).run_id).path / "result.json").unlink()
    assert listed(store) == [0, 3, 4]


def test_a_record_in_the_place_of_another_is_read_again(store: Store) -> None:
    spec = make_spec(seed=1)
    path = store.run(spec.run_id).path / "result.json"
    path.unlink()
    path.write_text(json.dumps(make_record(spec, test_accuracy=0.987)))
    values = [r["results"]["test_accuracy"] for r in store.index() if r["spec"]["seed"] == 1]
    assert values == [0.987]


def test_unfinished_runs_and_foreign_files_are_no_records(store: Store) -> None:
    make_run(store, make_spec(seed=9)).start().close()
    (store.root / "runs" / "notes.txt").write_text("mine")
    (store.root / "runs" / ".hidden").mkdir()
    assert listed(store) == [0, 1, 2, 3, 4]


def test_dead_lines_are_dropped_once_they_outnumber_the_living(store: Store) -> None:
    path = store.root / "index.jsonl"
    path.write_bytes(path.read_bytes() * 30)
    assert listed(store) == [0, 1, 2, 3, 4]
    assert len(lines(store)) == 5
    before = os.stat(path).st_mtime_ns
    assert listed(store) == [0, 1, 2, 3, 4]
    assert os.stat(path).st_mtime_ns == before  # a sound index is not written again
