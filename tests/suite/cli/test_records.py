"""--records: runs that are published count as done, so that a sweep outlives its store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from suite.records.schema import Record, to_line
from suite.spec import RunSpec
from suite.store.folders import Store
from tests.suite.cli.conftest import TINY, Cli, finish
from tests.suite.fake_records import make_record
from tests.suite.runner import sources_of, tiny_specs

BOTH = ("-o", "sgd", "-s", "0-1", "--device", "cpu", "--wandb", "off", "--workers", "1")


def publish(store: Store, path: Path) -> Path:
    """Write the records of a store as `steppe publish` does."""
    records = [store.run(run_id).record() for run_id in store.run_ids()]
    path.write_bytes(b"".join(to_line(record) for record in records if record is not None))
    return path


def test_nothing_is_repeated_after_the_store_was_deleted(cli: Cli, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run = ("run", *TINY, *BOTH, "--store", store.root)
    first, second = (spec.run_id for spec in tiny_specs(["sgd"], [0, 1]))
    assert cli(*run, "-s", "0").code == 0
    half = publish(store, tmp_path / "half.jsonl")
    shutil.rmtree(store.root)

    answer = cli(*run, "--records", half, "--json")
    assert answer.code == 0, answer.err
    assert answer.err.splitlines()[0] == f"2 runs in {store.root}: 1 done in records, 1 queued"
    assert answer.err.splitlines()[-1] == "1 done, 1 done in records"
    assert answer.json["runs"] == {first: "done in records", second: "done"}
    assert store.run_ids() == [second]

    rest = publish(store, tmp_path / "rest.jsonl")
    shutil.rmtree(store.root)
    answer = cli(*run, "--records", half, rest)
    assert (answer.code, answer.err.splitlines()[-1]) == (0, "2 done in records")
    assert not store.root.exists()


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Seed 0 of SGD, done; seed 1, diverged."""
    done, diverged = tiny_specs(["sgd"], [0, 1])
    return written(tmp_path / "some records.jsonl", record_of(done), record_of(diverged, "failed"))


def record_of(spec: RunSpec, status: str = "completed") -> Record:
    """A record of a run by the code as it is."""
    return make_record(spec, status, sources=sources_of(spec))


def written(path: Path, *records: Record) -> Path:
    path.write_bytes(b"".join(map(to_line, sorted(records, key=lambda record: record.run_id))))
    return path


@pytest.mark.parametrize("command", ["plan", "run"])
def test_runs_that_other_code_made_do_not_count(cli: Cli, tmp_path: Path, command: str) -> None:
    spec, other = tiny_specs(["sgd"], [0, 1])
    edited = record_of(spec)
    edited = replace(edited, sources=replace(edited.sources, optimizer="e" * 64))
    path = written(tmp_path / "old.jsonl", edited, record_of(other))
    given = (command, *TINY, "-o", "sgd", "--device", "cpu", "--store", tmp_path / "store")
    answer = cli(*given, "--records", path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert (
        f"optimizer sgd changed under version {spec.optimizer.version} (other code made run {spec.run_id} of "
        f"{path}): raise its version, or leave the file out"
    ) in answer.err
    assert not (tmp_path / "store").exists()
    assert cli("plan", *given[1:], "-s", "1", "--records", path).code == 0  # nothing of it is counted


@pytest.mark.parametrize("backwards", [False, True])
def test_a_run_that_completed_in_one_file_is_done(cli: Cli, tmp_path: Path, backwards: bool) -> None:
    (spec,) = tiny_specs(["sgd"], [0])
    files = [
        written(tmp_path / f"{status}.jsonl", record_of(spec, status)) for status in ("completed", "failed")
    ]
    given = ("plan", *TINY, "-o", "sgd", "--device", "cpu", "--store", tmp_path / "store", "--json")
    plan = cli(*given, "--records", *(reversed(files) if backwards else files)).json
    assert plan["states"] == {"done in records": 1}


def test_a_plan_leaves_out_what_is_published(cli: Cli, tmp_path: Path, records: Path) -> None:
    given = ("plan", *TINY, "-o", "sgd", "-s", "0-2", "--device", "cpu", "--store", tmp_path / "store")
    plan = cli(*given, "--records", records, "--json").json
    assert plan["states"] == {"new": 1, "done in records": 1, "failed in records": 1}
    assert plan["n_left"] == 1
    text = cli(*given, "--records", records).out
    assert "3 runs in" in text
    assert "1 new, 1 done in records, 1 failed in records" in text
    assert text.splitlines()[-1].endswith(f"--records '{records}' --plugin {TINY[-1]}")


def test_a_record_of_the_store_counts_before_one_that_is_published(
    cli: Cli, tmp_path: Path, records: Path
) -> None:
    store = Store(tmp_path / "store")
    (spec,) = tiny_specs(["sgd"], [0])
    finish(store, spec)
    plan = cli(
        "plan", *TINY, "-o", "sgd", "--store", store.root, "--device", "cpu", "--records", records, "--json"
    )
    assert plan.json["states"] == {"done": 1}


def test_a_run_that_diverged_is_not_repeated_and_is_no_success(
    cli: Cli, tmp_path: Path, records: Path
) -> None:
    answer = cli("run", *TINY, *BOTH, "--store", tmp_path / "store", "--records", records)
    assert (answer.code, answer.err.splitlines()[-1]) == (1, "1 done in records, 1 failed in records")


def test_other_runs_in_the_records_count_for_nothing(cli: Cli, tmp_path: Path, records: Path) -> None:
    given = (
        "plan",
        *TINY,
        "-o",
        "sam",
        "-s",
        "0-1",
        "--device",
        "cpu",
        "--store",
        tmp_path / "store",
        "--json",
    )
    assert cli(*given, "--records", records).json["states"] == {"new": 2}
    assert cli(*given, "--records", records, "--precision", "bf16").json["states"] == {"new": 2}


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_line_that_is_no_record_is_named(cli: Cli, tmp_path: Path, records: Path, command: str) -> None:
    records.write_bytes(records.read_bytes()[:-30] + b"\n")
    given = (command, *TINY, "-o", "sgd", "--device", "cpu", "--store", tmp_path / "store")
    answer = cli(*given, "--records", records)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"{records}:2" in answer.err
    assert not (tmp_path / "store").exists()
