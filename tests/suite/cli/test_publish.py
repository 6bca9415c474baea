"""`steppe publish`: what is taken over into published records, and what is refused."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from suite.cli import parse, publish
from suite.publishing.published import read_records
from suite.records.schema import Estimate, Origin, Record, SplitResult
from suite.spec import EntryRef
from suite.store.folders import Store
from tests.suite.cli.conftest import Cli
from tests.suite.cli.finished import finish, stored, tiny_records

PATH = Path("results/records/tiny.jsonl")
AGAIN = Estimate(3.5, 0.1, 0.2, 32, 8, "test", 2, origin=Origin("d" * 64, "e" * 40, "cpu B"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stored(tmp_path / "store", tiny_records()[:2])


def edited(store: Store, one: Record) -> None:
    """Put another record in the place of the one that the store has of the run."""
    store.run(one.run_id).replace_record(one)


def measured(one: Record, **estimates: Estimate) -> Record:
    assert one.sharpness is not None
    return replace(one, sharpness=replace(one.sharpness, measures={**one.sharpness.measures, **estimates}))


def published() -> dict[str, Record]:
    return {one.run_id: one for one in read_records(PATH)}


def test_publishing_again_changes_nothing(cli: Cli, store: Store) -> None:
    assert cli("publish", "--store", store.root).out == f"{PATH}: 2 records, 2 new\n"
    before = PATH.read_bytes()
    assert cli("publish", "--store", store.root).out == f"{PATH}: 2 records, 0 new\n"
    assert PATH.read_bytes() == before
    assert published() == {one.run_id: one for one in tiny_records()[:2]}


def test_a_published_record_names_no_place_and_no_host(cli: Cli, store: Store, tmp_path: Path) -> None:
    cli("publish", "--store", store.root)
    content = PATH.read_text()
    assert str(tmp_path) not in content
    assert socket.gethostname() not in content


def test_only_the_records_of_the_tasks_asked_for_are_read(
    cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.index()
    monkeypatch.setattr("suite.store.folders.RunFolder.record", lambda run: pytest.fail("read a record"))
    answer = cli("publish", "-t", "digits*", "--store", store.root)
    assert (answer.code, answer.err.count("no finished run to publish")) == (2, 1)


def test_other_results_of_a_published_run_are_refused(cli: Cli, store: Store) -> None:
    cli("publish", "--store", store.root)
    before, one = PATH.read_bytes(), tiny_records()[0]
    metrics = {**one.results["validation"].metrics, "loss": 0.7}
    other = replace(one, results={**one.results, "validation": SplitResult(16, metrics)})
    edited(store, other)
    answer = cli("publish", "--store", store.root)
    assert (answer.code, answer.err.count("\n")) == (2, 2)
    assert f"run {one.run_id} is published with other results, both from cpu A" in answer.err
    edited(store, replace(other, provenance=replace(one.provenance, origin=AGAIN.origin)))
    assert "with other results, from cpu A, here from cpu B" in cli("publish", "--store", store.root).err
    assert PATH.read_bytes() == before


def test_estimates_that_were_measured_again_are_taken_over(cli: Cli, store: Store) -> None:
    cli("publish", "--store", store.root)
    one, other = tiny_records()[:2]
    edited(store, measured(one, lambda_max=AGAIN))
    answer = cli("publish", "--store", store.root)
    assert answer.out == f"{PATH}: 2 records, 0 new, 1 measured again\n"
    assert published() == {one.run_id: measured(one, lambda_max=AGAIN), other.run_id: other}
    assert cli("publish", "--store", store.root).out == f"{PATH}: 2 records, 0 new\n"


def test_a_run_s_own_estimate_is_published_as_it_was(cli: Cli, store: Store) -> None:
    cli("publish", "--store", store.root)
    one = tiny_records()[0]
    edited(store, measured(one, lambda_max=replace(AGAIN, version=1, origin=None)))
    cli("publish", "--store", store.root)
    assert published()[one.run_id] == one


def test_an_older_version_of_an_estimate_is_refused(cli: Cli, store: Store) -> None:
    one = tiny_records()[0]
    edited(store, measured(one, lambda_max=AGAIN))
    cli("publish", "--store", store.root)
    before = PATH.read_bytes()
    edited(store, one)
    answer = cli("publish", "--store", store.root)
    assert (answer.code, answer.err.count("\n")) == (2, 2)
    assert (
        f"run {one.run_id} is published with version 2 of lambda_max, the store has version 1: "
        f"`steppe measure {one.run_id} -m lambda_max --write` brings it to the newest"
    ) in answer.err
    assert PATH.read_bytes() == before


def test_measures_of_a_run_that_had_none_are_taken_over(cli: Cli, tmp_path: Path) -> None:
    one = tiny_records()[0]
    store = stored(tmp_path / "bare", [replace(one, sharpness=None)])
    cli("publish", "--store", store.root)
    assert one.sharpness is not None
    whole = replace(one, sharpness=replace(one.sharpness, measures={"lambda_max": AGAIN}))
    edited(store, whole)
    cli("publish", "--store", store.root)
    assert published() == {one.run_id: whole}


def test_evidence_that_was_dropped_does_not_make_other_results(cli: Cli, store: Store) -> None:
    cli("publish", "--store", store.root)
    one = tiny_records()[0]
    bare = {split: replace(result, right={}) for split, result in one.results.items()}
    edited(store, measured(replace(one, results=bare), lambda_max=AGAIN))
    assert cli("publish", "--store", store.root).code == 0
    assert published()[one.run_id] == measured(one, lambda_max=AGAIN)  # and what was published stays


def test_where_one_record_cannot_be_published_none_is(cli: Cli, store: Store) -> None:
    one, other = tiny_records()[:2]
    for record in (one, other):
        edited(store, replace(record, cost=replace(record.cost, losses=30)))
    spec = replace(
        tiny_records()[2].spec, task=EntryRef("another", "1", {})
    )  # its file is the first to write
    finish(store, replace(tiny_records()[2], spec=spec, run_id=spec.run_id))
    answer = cli("publish", "--store", store.root)
    *told, last = answer.err.splitlines()
    assert (answer.code, len(told)) == (2, 2)
    for line, run_id in zip(told, sorted((one.run_id, other.run_id)), strict=True):
        start = f"steppe: error: the record of run {run_id} cannot be published: cost.sample_gradients is"
        assert line.startswith(start)
    assert last == f"steppe: nothing is published: all runs of {store.root} are, or none"
    assert not list(PATH.parent.glob("*.jsonl"))


def test_who_publishes_at_the_same_time_loses_nothing(
    cli: Cli, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(path: Path) -> list[Record]:
        found = list(read_records(path))
        time.sleep(0.2)  # let the other one read before this one writes
        return found

    def publish_from(store: Store) -> int:
        return publish.execute(parse("publish", ["--store", str(store.root), "--to", str(PATH.parent)]))

    cli("publish", "--store", store.root)
    monkeypatch.setattr("suite.publishing.publish.read_records", slowly)
    stores = [stored(tmp_path / str(at), [one]) for at, one in enumerate(tiny_records()[2:4])]
    with ThreadPoolExecutor() as pool:
        assert [*pool.map(publish_from, stores)] == [0, 0]
    assert published() == {one.run_id: one for one in tiny_records()[:4]}


def test_a_record_that_cannot_be_read_is_said(cli: Cli, store: Store) -> None:
    folder = finish(store, tiny_records()[2])
    (folder.path / "result.json").write_text("{")
    answer = cli("publish", "--store", store.root)
    assert answer.out == f"{PATH}: 2 records, 2 new\n"
    assert f"{folder.path / 'result.json'} is half-written or corrupt" in answer.err
