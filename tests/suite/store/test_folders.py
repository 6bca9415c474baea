"""The store's folders, specs, records, states and pinned entries."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite.errors import SteppeError
from suite.files import StorageError
from suite.spec import RunSpec
from suite.store.folders import RunDone, RunFolder, Store
from tests.suite.fake_records import begin, finish, make_record, make_run, make_spec


def test_looking_creates_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert list(store.index()) == []
    assert store.run_ids() == []
    assert store.run(make_spec().run_id).status() == "queued"
    assert not (tmp_path / "store").exists()


def test_importing_the_store_loads_no_torch() -> None:
    code = "import sys, suite.store.folders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_spec_survives_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    spec = make_spec(seed=3)
    folder = make_run(Store(tmp_path), spec)
    assert folder.spec() == spec
    path = folder.path / "spec.json"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SteppeError, match=r"spec\.json is half-written or corrupt: give the same"):
        folder.spec()
    folder.write_spec(spec)
    assert folder.spec() == spec


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_spec_with_a_number_that_is_none_is_corrupt(tmp_path: Path, number: str) -> None:
    folder = make_run(Store(tmp_path), make_spec())
    path = folder.path / "spec.json"
    path.write_text(path.read_text().replace('"epochs": 2.0', f'"epochs": {number}'))
    with pytest.raises(SteppeError, match=r"spec\.json is half-written or corrupt: give the same") as caught:
        folder.spec()
    assert "\n" not in str(caught.value)


def test_a_spec_that_gives_another_run_id_is_refused(tmp_path: Path) -> None:
    folder = make_run(Store(tmp_path), make_spec(seed=3))
    raw = json.loads((folder.path / "spec.json").read_text())
    (folder.path / "spec.json").write_text(json.dumps({**raw, "seed": 4}))
    with pytest.raises(SteppeError, match=r"corrupt .it gives run id"):
        folder.spec()
    with pytest.raises(SteppeError, match="cannot take the spec"):
        folder.write_spec(make_spec(seed=4))


def test_status_follows_a_run_through_its_life(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec()
    folder = make_run(store, spec)
    seen = [folder.status()]
    attempt = folder.start()
    seen.append(folder.status())
    attempt.close()
    seen.append(folder.status())
    with folder.start() as attempt:
        attempt.publish(make_record(spec))
    seen.append(folder.status())
    assert seen == ["queued", "running", "interrupted", "done"]
    assert finish(store, make_spec(seed=1), status="failed").status() == "failed"


def test_an_attempt_that_cannot_look_for_a_record_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(Store(tmp_path), make_spec())
    looks = iter([None, StorageError("cannot read")])

    def result(_: object) -> None:
        if (answer := next(looks)) is not None:
            raise answer

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record", result)
        with pytest.raises(StorageError):
            folder.start()
    with folder.start() as attempt:
        assert attempt.number == 2


def test_a_done_run_is_not_started_again(tmp_path: Path) -> None:
    folder = finish(Store(tmp_path), make_spec())
    with pytest.raises(RunDone):
        folder.start()
    assert os.listdir(folder.path / "attempts") == ["1"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw[:-20], "half-written or corrupt"),
        (lambda raw: b"", "half-written or corrupt"),
        (lambda raw: raw.replace(b'"completed"', b'"comple"'), "status is 'comple'"),
        (lambda raw: raw.replace(b'"record_version": 2', b'"record_version": 99'), "record_version is 99"),
        (lambda raw: raw.replace(make_spec().run_id.encode(), b"0" * 16), "but its spec is that of"),
    ],
)
def test_a_damaged_record_says_so_and_the_others_are_listed(tmp_path: Path, change, says: str) -> None:
    store = Store(tmp_path)
    folder, other = finish(store, make_spec()), finish(store, make_spec(seed=1))
    raw = (folder.path / "result.json").read_bytes()
    (folder.path / "result.json").unlink()
    (folder.path / "result.json").write_bytes(change(raw))
    for look in (folder.record, folder.status, folder.start):
        with pytest.raises(SteppeError, match=f"{folder.run_id}/result.json.*{says}.*: delete it") as caught:
            look()
        assert not isinstance(caught.value, RunDone)
    records = store.index()
    assert [record.run_id for record in records] == [other.run_id]
    assert len(records.skipped) == 1
    (folder.path / "result.json").unlink()  # what the message advises
    with folder.start() as attempt:
        assert attempt.publish(make_record(make_spec()))
    assert len(store.index()) == 2


def test_the_metrics_that_count_are_those_of_the_attempt_that_published(tmp_path: Path) -> None:
    folder = make_run(Store(tmp_path), make_spec())
    for row in ({"epoch": 1}, {"epoch": 2}):
        with folder.start() as attempt:
            attempt.metrics(row)
    assert folder.metrics() == [{"epoch": 2}]
    with folder.start() as attempt:
        attempt.metrics({"epoch": 3})
        attempt.publish(make_record(make_spec()))
    (folder.path / "attempts" / "4").mkdir()  # somebody started just before the record appeared
    assert folder.metrics() == [{"epoch": 3}]
    assert [event["attempt"] for event in folder.events() if event["event"] == "start"] == [1, 2, 3]


def test_find_takes_a_prefix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = [make_run(store, make_spec(seed=seed)) for seed in range(20)]
    assert store.find(runs[0].run_id[:12]).run_id == runs[0].run_id
    with pytest.raises(SteppeError, match="ambiguous"):
        store.find("")
    with pytest.raises(SteppeError, match="no run 'zz'"):
        store.find("zz")


@pytest.mark.parametrize("leave", [begin, finish])
def test_an_entry_is_pinned_once_a_run_of_it_has_trained(
    tmp_path: Path, leave: Callable[[Store, RunSpec], object]
) -> None:
    store, spec = Store(tmp_path), make_spec(optimizer="control-sam")
    begin(store, make_spec(optimizer="another"))
    store.pin_entry("optimizer", "control-sam", "1", "c" * 64)
    with make_run(store, spec).start():
        pass  # the code raised before the first epoch: it may be mended under its version
    store.pin_entry("optimizer", "control-sam", "1", "a" * 64)
    leave(store, spec)
    store.pin_entry("optimizer", "control-sam", "1", "a" * 64)
    store.pin_entry("optimizer", "control-sam", "2", "b" * 64)
    store.pin_entry("task", "control-sam", "1", "b" * 64)
    with pytest.raises(SteppeError) as caught:
        store.pin_entry("optimizer", "control-sam", "1", "b" * 64)
    assert str(caught.value) == (
        "baselines entry control-sam changed under version 1 (pinned in this store): "
        "raise its version, or restore the file"
    )
    with pytest.raises(SteppeError, match="changed under version 1"):
        store.pin_entry("optimizer", "control-sam", "1", "c" * 64)
    (pin,) = (tmp_path / "entries" / "tasks").iterdir()
    pin.write_text("")
    with pytest.raises(SteppeError, match="is corrupt: delete it"):
        store.pin_entry("task", "control-sam", "1", "b" * 64)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB (16 pages) of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_one_line_and_leaves_everything_whole(tiny_disk: Path) -> None:
    import torch

    store, spec = Store(tiny_disk), make_spec()
    folder = make_run(store, spec)
    with folder.start() as attempt:
        attempt.metrics({"epoch": 1})
        attempt.checkpoint({"w": torch.zeros(10)})
        with pytest.raises(SteppeError, match=r"no space left to write .*checkpoint"):
            attempt.checkpoint({"w": torch.zeros(100_000)})
        (tiny_disk / "ballast").write_bytes(b"x" * 4096 * (_free_pages(tiny_disk)))
        with pytest.raises(SteppeError, match="no space left"):
            attempt.publish(make_record(spec))
        with pytest.raises(SteppeError, match="no space left"):
            attempt.metrics({"epoch": 2, "text": "x" * 5000})  # more than what is left of its page
        attempt.event("this is dropped, not raised", text="x" * 5000)
    assert folder.status() == "interrupted"
    assert len(store.index()) == 0
    (tiny_disk / "ballast").unlink()
    with folder.start() as attempt:
        state = attempt.resume()
        assert state is not None
        assert len(state["w"]) == 10
        assert folder.metrics() == [{"epoch": 1}]
        attempt.publish(make_record(spec))
    assert len(store.index()) == 1


def _free_pages(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_bsize // 4096


def test_a_read_only_store_lists_and_says_why_it_cannot_run(tiny_disk: Path) -> None:
    store = Store(tiny_disk)
    finish(store, make_spec())
    waiting = make_run(store, make_spec(seed=1))
    (tiny_disk / "index.jsonl").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    assert len(store.index()) == 1
    for write in (
        waiting.start,
        lambda: make_run(store, make_spec(seed=2)),
        lambda: store.pin_entry("task", "digits", "1", "a" * 64),
    ):
        with pytest.raises(SteppeError, match=r"cannot write .*: it is read-only; make it writable"):
            write()
    assert waiting.status() == "queued"


def test_an_error_stands_until_the_next_attempt_starts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = make_run(store, make_spec())
    assert folder.error() is None
    folder.record_error("mistake", "rho is out of range")  # before any attempt
    assert folder.status() == "error"
    attempt = folder.start()
    assert (folder.status(), folder.error()) == ("running", None)
    attempt.close()
    assert folder.status() == "interrupted"
    folder.record_error("error", "it raised", "logs/x.log", "7_1")
    run_error = folder.error()
    assert run_error is not None
    assert (run_error.message, run_error.log, run_error.job, run_error.attempt) == (
        "it raised",
        "logs/x.log",
        "7_1",
        1,
    )
    assert abs(run_error.time - time.time()) < 3600
    assert folder.status() == "error"
    with folder.start() as second:
        second.publish(make_record(folder.spec()))
    assert folder.status() == "done"


def test_an_error_that_cannot_be_recorded_is_a_fault_of_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin(Store(tmp_path), make_spec())

    def stale(_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "listdir", stale)
    with pytest.raises(StorageError, match=r"error\.json: Stale file handle"):
        folder.record_error("storage", "the disk refused")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"outcome": "error", "attempt": "x"}'])
def test_a_damaged_error_file_tells_nothing(tmp_path: Path, content: str) -> None:
    folder = begin(Store(tmp_path), make_spec())
    (folder.path / "error.json").write_text(content)
    assert (folder.status(), folder.error()) == ("interrupted", None)


def test_an_entry_whose_runs_only_raised_may_be_mended_under_its_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = make_run(store, make_spec())
    store.pin_entry("optimizer", "sgd", "1", "a" * 64)
    folder.start().close()
    folder.record_error("error", "it raised at the first step")
    store.pin_entry("optimizer", "sgd", "1", "b" * 64)
