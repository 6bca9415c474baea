"""The index lists what the folders hold, whatever happened to it or to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from suite.records import schema
from suite.records.schema import Record, to_document, to_line
from suite.store import index
from suite.store.folders import Store
from tests.suite.fake_records import TASK, finish, make_record, make_run, make_spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for seed in range(5):
        finish(store, make_spec(seed=seed), accuracy=seed / 10)
    return store


def listed(store: Store) -> list[int]:
    records = store.index()
    assert records.skipped == ()
    assert [record.run_id for record in records] == sorted(record.run_id for record in records)
    return sorted(record.spec.seed for record in records)


def lines(store: Store) -> list[str]:
    return (store.root / "index.jsonl").read_text().splitlines()


def test_records_are_slim(store: Store) -> None:
    assert listed(store) == [0, 1, 2, 3, 4]
    for record in store.index():
        whole = store.run(record.run_id).record()
        assert whole is not None
        assert record == index.slim(whole) != whole
        assert record.results["test"].right == {"accuracy": ""}
        assert record.provenance.versions == {}
        assert (record.score(), record.task) == (record.spec.seed / 10, TASK)


def test_a_listing_reads_no_record_that_is_indexed(store: Store) -> None:
    spoil_records(store)
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


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe garbage\n{}\n[1]\nnull\n", b'["a", 1, 2, {}]\n', b"00000000 1 2 {}\n"]
)
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
    path.write_bytes(to_document(make_record(spec, accuracy=0.987)))
    values = [record.score() for record in store.index() if record.spec.seed == 1]
    assert values == [0.987]


def test_unfinished_runs_and_foreign_files_are_no_records(store: Store) -> None:
    make_run(store, make_spec(seed=9)).start().close()
    (store.root / "runs" / "notes.txt").write_text("mine")
    (store.root / "runs" / ".hidden").mkdir()
    assert listed(store) == [0, 1, 2, 3, 4]


def test_dead_lines_are_dropped_once_they_are_many(store: Store) -> None:
    path = store.root / "index.jsonl"
    path.write_bytes(path.read_bytes() * 30)
    assert listed(store) == [0, 1, 2, 3, 4]
    assert len(lines(store)) == 5
    before = os.stat(path).st_mtime_ns
    assert listed(store) == [0, 1, 2, 3, 4]
    assert os.stat(path).st_mtime_ns == before  # a sound index is not written again


N_MANY = 150


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 150 records of two optimizers, as a listing that found no index leaves it."""
    store = Store(tmp_path_factory.mktemp("many"))
    for seed in range(N_MANY):
        make_done(store, seed)
    store.index()
    return store.root


def make_done(store: Store, seed: int) -> None:
    spec = make_spec(seed, optimizer=("sgd", "sam")[seed % 2])
    folder = make_run(store, spec)
    (folder.path / "result.json").write_bytes(to_document(make_record(spec, accuracy=seed / 1000)))


@pytest.fixture
def many(compacted: Path, tmp_path: Path) -> Store:
    shutil.copytree(compacted, tmp_path / "many", copy_function=shutil.copy2)  # with their times
    return Store(tmp_path / "many")


def accuracies(store: Store) -> dict[int, float | None]:
    records = store.index()
    assert records.skipped == ()
    assert [record.run_id for record in records] == store.run_ids()
    return {record.spec.seed: record.score() for record in records}


def expected(n: int = N_MANY) -> dict[int, float]:
    return {seed: seed / 1000 for seed in range(n)}


def spoil_records(store: Store, *, but: int | None = None) -> None:
    """Make all records unreadable, but that of one seed; `stat` shows nothing of it."""
    for run_id in store.run_ids():
        run = store.run(run_id)
        path = run.path / "result.json"
        if run.spec().seed == but:
            continue
        before = path.stat()
        path.write_bytes(b"x" * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_new_records_go_behind_those_that_are_listed(many: Store) -> None:
    path = many.root / "index.jsonl"
    before = path.read_bytes()
    finish(many, make_spec(N_MANY), accuracy=N_MANY / 1000)
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == len(before.splitlines()) + 1
    spoil_records(many)
    assert accuracies(many) == expected(N_MANY + 1)


@pytest.mark.parametrize("damage", ["torn", "lost", "changed"])
def test_the_record_of_a_damaged_line_is_read_again(many: Store, damage: str) -> None:
    path = many.root / "index.jsonl"
    content = path.read_bytes().splitlines(keepends=True)
    content[7] = {
        "torn": content[7][: len(content[7]) // 2] + b"\n",
        "lost": b"",
        "changed": content[7].replace(b"0", b"1"),
    }[damage]
    path.write_bytes(b"".join(content))
    spoil_records(many, but=many.run(many.run_ids()[7]).spec().seed)  # lines are in the order of the ids
    assert accuracies(many) == expected()
    spoil_records(many)
    assert accuracies(many) == expected()


def test_lines_mixed_by_a_network_file_system_are_no_records(store: Store) -> None:
    path = store.root / "index.jsonl"
    one, other, *rest = path.read_bytes().splitlines(keepends=True)
    # Wherever both have the same bytes, so that some of the mixed lines would pass for JSON.
    places = [(at, other.find(one[at : at + 6])) for at in range(len(one))]
    mixed = {one[:at] + other[there:] for at, there in places if there >= 0} - {one, other}
    assert len(mixed) > 50
    path.write_bytes(b"".join([*sorted(mixed), other, *rest]))
    values = {record.spec.seed: record.score() for record in store.index()}
    assert values == {seed: seed / 10 for seed in range(5)}


def test_an_index_of_another_version_is_passed_over(many: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (many.root / "index.jsonl").unlink()

    def other_version(record: Record) -> bytes:
        return to_line(record).replace(b'"record_version":2', b'"record_version":1')

    with monkeypatch.context() as patch:
        patch.setattr(schema, "to_line", other_version)
        many.index()
    assert b'"record_version":1' in (many.root / "index.jsonl").read_bytes()
    assert accuracies(many) == expected()
    spoil_records(many)
    assert accuracies(many) == expected()


def appending(store: Store, run_ids: list[str]) -> subprocess.Popen[bytes]:
    """Start a process that adds the lines of these runs, one by one."""
    code = """
import sys
from pathlib import Path
from suite.store import index
for run_id in sys.argv[2:]:
    index.append(Path(sys.argv[1]), run_id)
"""
    return subprocess.Popen([sys.executable, "-c", code, str(store.root), *run_ids])


def test_processes_that_append_at_once_lose_no_line(many: Store) -> None:
    new = range(N_MANY, N_MANY + 60)
    for seed in new:
        make_done(many, seed)
    run_ids = [make_spec(seed, ("sgd", "sam")[seed % 2]).run_id for seed in new]
    writers = [appending(many, run_ids[start::4]) for start in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    spoil_records(many)
    assert accuracies(many) == expected(N_MANY + 60)


def test_listings_that_write_the_index_anew_beside_a_writer_lose_no_record(many: Store) -> None:
    new = range(N_MANY, N_MANY + 60)
    for seed in new:
        make_done(many, seed)
    run_ids = [make_spec(seed, ("sgd", "sam")[seed % 2]).run_id for seed in new]
    with appending(many, run_ids) as writer:
        while writer.poll() is None:
            (many.root / "index.jsonl").unlink(missing_ok=True)
            assert accuracies(many) == expected(N_MANY + 60)
    assert writer.returncode == 0
    assert accuracies(many) == expected(N_MANY + 60)


def test_a_store_whose_index_cannot_be_written_is_listed(many: Store) -> None:
    (many.root / "index.jsonl").unlink()
    (many.root / "index.jsonl").mkdir()
    assert accuracies(many) == expected()
