"""Attempts are fenced: one at a time, taken over only from the dead, and the first result stands."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from suite.errors import SteppeError
from suite.files import StorageError
from suite.store import heartbeat, lease
from suite.store.folders import RunBusy, RunDone, RunFenced, RunFolder, Store
from suite.store.heartbeat import STALE_S
from suite.store.lease import attempt_numbers
from tests.suite.fake_records import TASK, make_record, make_run, make_spec


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(Store(tmp_path), make_spec())


def beat_file(folder: RunFolder, number: int) -> Path:
    return folder.path / "attempts" / str(number) / "heartbeat"


def change_owner(path: Path, **changes: object) -> None:
    status = path.stat()
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def silence(path: Path, age_s: float) -> None:
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))


def test_a_living_attempt_makes_a_newcomer_leave(folder: RunFolder) -> None:
    with folder.start() as attempt:
        with pytest.raises(
            RunBusy, match=rf"being worked on by process {os.getpid()} on .*attempt 1"
        ) as caught:
            folder.start()
        assert "\n" not in str(caught.value)
        assert not attempt.fenced()
    assert attempt_numbers(folder.path) == [1]


def test_a_closed_attempt_is_followed_by_the_next(folder: RunFolder) -> None:
    folder.start().close()
    with folder.start() as attempt:
        assert attempt.number == 2


def test_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path: Path, folder: RunFolder) -> None:
    code = (
        "import os, signal; from suite.store.folders import Store; "
        f"Store({str(tmp_path)!r}).run({folder.run_id!r}).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert beat_file(folder, 1).exists()
    assert folder.status() == "interrupted"
    with folder.start() as attempt:
        assert attempt.number == 2
    starts = [event["why"] for event in folder.events() if event["event"] == "start"]
    assert starts == ["new", "its process ended"]


def test_a_process_id_that_was_given_to_another_process_counts_as_dead(folder: RunFolder) -> None:
    first = folder.start()
    change_owner(beat_file(folder, 1), started="1")
    folder.start().close()
    first.close()


@pytest.mark.parametrize(("refusal", "dead"), [(PermissionError, False), (ProcessLookupError, True)])
def test_where_proc_hides_other_users_a_process_is_dead_only_if_there_is_none(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, refusal: type[OSError], dead: bool
) -> None:
    first = folder.start()
    change_owner(beat_file(folder, 1), pid=2**22 + 1)  # no process here has such a number

    def kill(pid: int, number: int) -> None:
        assert (pid, number) == (2**22 + 1, 0)
        raise refusal

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", kill)
        held = lease.latest_lease(folder.path)
        assert held is not None
        assert held.alive is not dead
        silence(beat_file(folder, 1), STALE_S + 1)  # a hidden one is judged by its age alone
        held = lease.latest_lease(folder.path)
        assert held is not None
        assert not held.alive
    first.close()


@pytest.mark.parametrize("machine", ["another boot pid:[1]", ""])
def test_on_another_machine_only_silence_counts(folder: RunFolder, machine: str) -> None:
    first = folder.start()
    change_owner(beat_file(folder, 1), machine=machine, pid=2**22 + 1, host="node7")
    silence(beat_file(folder, 1), STALE_S - 20)  # 20 s: more than any pause of this test
    with pytest.raises(RunBusy, match="on node7"):
        folder.start()
    silence(beat_file(folder, 1), 21)
    with folder.start() as second:
        assert second.number == 2
        assert first.fenced()
    first.close()


def test_an_unreadable_heartbeat_counts_by_its_age(folder: RunFolder) -> None:
    first = folder.start()
    beat_file(folder, 1).write_bytes(b"\xff{")
    with pytest.raises(RunBusy, match="an unknown process"):
        folder.start()
    silence(beat_file(folder, 1), STALE_S + 1)
    folder.start().close()
    first.close()


@pytest.mark.parametrize(
    ("job", "count", "taken"), [("7", 1, True), ("7", 2, True), ("7", 0, False), ("8", 5, False)]
)
def test_a_restart_by_the_scheduler_takes_over(folder: RunFolder, job: str, count: int, taken: bool) -> None:
    with folder.start(restart_count=0, job="7") as first:
        if taken:
            folder.start(restart_count=count, job=job).close()
        else:
            with pytest.raises(RunBusy):
                folder.start(restart_count=count, job=job)
        assert first.fenced() is taken


def test_the_age_is_taken_by_the_clock_of_the_file_system(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.start():
        change_owner(beat_file(folder, 1), machine="another")
        monkeypatch.setattr(time, "time", lambda: 4e9)  # our own clock is decades ahead
        with pytest.raises(RunBusy):
            folder.start()


def test_the_heart_beats(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    with folder.start():
        silence(beat_file(folder, 1), 1000)
        then = beat_file(folder, 1).stat().st_mtime
        for _ in range(500):
            if beat_file(folder, 1).stat().st_mtime > then + 900:
                break
            time.sleep(0.01)
        else:
            pytest.fail("the heartbeat was not touched within 5 s")
    assert not beat_file(folder, 1).exists()


def test_of_many_that_start_at_once_one_works(folder: RunFolder) -> None:
    barrier, working, busy = threading.Barrier(8), [], []

    def start() -> None:
        barrier.wait()
        try:
            working.append(folder.start())
        except RunBusy:
            busy.append(1)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(working), len(busy)) == (1, 7)
    assert os.listdir(folder.path / "attempts") == ["1"]
    working[0].close()


def test_two_processes_that_start_at_once(tmp_path: Path, folder: RunFolder) -> None:
    code = (
        "import sys, time; from suite.store.folders import Store, RunBusy\n"
        f"folder = Store({str(tmp_path)!r}).run({folder.run_id!r})\n"
        "sys.stdin.readline()\n"
        "try: attempt = folder.start()\n"
        "except RunBusy: print('left', flush=True)\n"
        "else: print('works', flush=True)\n"
        "sys.stdin.readline()"
    )
    pipe = subprocess.PIPE
    two = [
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) for _ in range(2)
    ]
    for process in two:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = []
    for process in two:
        assert process.stdout is not None
        said.append(process.stdout.readline().strip())
    for process in two:
        process.communicate("end\n")
    assert sorted(said) == ["left", "works"]


def test_a_superseded_attempt_neither_saves_nor_publishes(folder: RunFolder) -> None:
    first = folder.start(0, job="7")
    first.metrics({"step": 1})
    first.checkpoint({"step": 1})
    with folder.start(1, job="7") as second:
        with pytest.raises(RunFenced, match="taken over from attempt 1"):
            first.checkpoint({"step": 2})
        with pytest.raises(RunFenced):
            first.publish(make_record(make_spec(), accuracy=0.1))
        assert folder.record() is None
        assert second.resume() == {"step": 1}
        assert second.publish(make_record(make_spec(), accuracy=0.2)) is True
        assert first.publish(make_record(make_spec(), accuracy=0.1)) is False
    first.close()
    record = folder.record()
    assert record is not None
    assert record.score() == 0.2


def test_the_first_result_stands(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder.start(0, job="7")
    monkeypatch.setattr(first, "fenced", lambda: False)  # it looked just before it was taken over
    with folder.start(1, job="7") as second:
        assert first.publish(make_record(make_spec(), accuracy=0.1)) is True
        assert second.publish(make_record(make_spec(), accuracy=0.2)) is False
    first.close()
    record = folder.record()
    assert record is not None
    assert record.score() == 0.1
    attempt = folder.attempt_path()
    assert attempt is not None
    assert attempt.name == "1"
    with pytest.raises(RunDone):
        folder.start(2, job="7")


def test_an_attempt_that_loads_does_not_hide_the_rows_before_it(folder: RunFolder) -> None:
    with folder.start():
        pass
    with folder.start() as second:
        second.metrics({"epoch": 1, "step": 6})
    with folder.start() as third:
        assert [row["step"] for row in folder.metrics()] == [6]
        third.metrics({"epoch": 1, "step": 7})
        assert [row["step"] for row in folder.metrics()] == [7]


def test_the_attempt_of_a_deleted_run_stops(folder: RunFolder) -> None:
    import shutil

    attempt = folder.start()
    shutil.rmtree(folder.path)
    assert attempt.fenced()
    attempt.close()


def test_publish_refuses_the_record_of_another_run(folder: RunFolder) -> None:
    with folder.start() as attempt, pytest.raises(SteppeError, match="cannot take the record"):
        attempt.publish(make_record(make_spec(seed=1)))
    assert folder.status() == "interrupted"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"facts": {"rises": np.float64(1.0)}},
            r": facts cannot be written \(.*numpy.float64.*\): correct task task or optimizer sgd",
        ),
        ({"engine": 0}, r": engine is 0; valid: int >= 1: correct task task or optimizer sgd"),
    ],
)
def test_a_record_that_nobody_could_read_is_not_published(
    folder: RunFolder, changes: dict[str, Any], says: str
) -> None:
    with (
        folder.start() as attempt,
        pytest.raises(SteppeError, match=f"^the record of run {folder.run_id}{says}"),
    ):
        attempt.publish(make_record(folder.spec(), **changes))
    assert folder.status() == "interrupted"
    assert folder.record() is None


def test_resume_brings_metrics_to_the_checkpoint_and_leaves_the_old_attempt_alone(folder: RunFolder) -> None:
    with folder.start() as first:
        assert first.resume() is None
        for step in (1, 2):
            first.metrics({"step": step})
        first.checkpoint({"step": 2, "w": torch.arange(3)})
        first.metrics({"step": 3})
    old = (first.path / "metrics.jsonl").read_bytes()
    with folder.start() as second:
        state = second.resume()
        assert state is not None
        assert state["step"] == 2
        assert torch.equal(state["w"], torch.arange(3))
        second.metrics({"step": 3})
    assert (second.path / "metrics.jsonl").read_bytes() == old == (first.path / "metrics.jsonl").read_bytes()
    with folder.start() as third:  # the second left no checkpoint: the first one's serves
        assert third.resume() is not None
        assert (third.path / "metrics.jsonl").read_bytes() == b'{"step":1}\n{"step":2}\n'


def test_a_finished_run_keeps_one_checkpoint(folder: RunFolder) -> None:
    for number in (1, 2):
        with folder.start() as attempt:
            attempt.resume()
            for step in range(3):
                attempt.checkpoint({"step": 10 * number + step})
            (attempt.path / ".checkpoint.pt.0.tmp").write_bytes(b"half")  # as a kill leaves it
            if number == 2:
                attempt.publish(make_record(make_spec()))
    left = sorted(str(p.relative_to(folder.path)) for p in folder.path.glob("attempts/*/*check*"))
    assert left == ["attempts/2/checkpoint.pt"]
    assert folder.last_state() == {"step": 22}


def checkpoints(folder: RunFolder) -> list[str]:
    return sorted(str(path.relative_to(folder.path)) for path in folder.path.glob("attempts/*/*check*"))


def save(folder: RunFolder, *steps: int) -> None:
    """Resume, save at these steps, and leave."""
    with folder.start() as attempt:
        attempt.resume()
        for step in steps:
            attempt.metrics({"step": step})
            attempt.checkpoint({"step": step})


def test_two_checkpoints_are_kept_however_often_a_run_is_resumed(folder: RunFolder) -> None:
    for number in range(1, 5):
        save(folder, *range(10 * number, 10 * number + 3))
        kept = [f"attempts/{number}/checkpoint.prev.pt", f"attempts/{number}/checkpoint.pt"]
        assert checkpoints(folder) == kept
        (folder.path / "attempts" / str(number) / ".checkpoint.pt.0.tmp").write_bytes(b"half")
    save(folder, 50, 51)
    assert not list(folder.path.glob("attempts/[1-4]/.check*"))
    assert all((folder.path / "attempts" / str(n) / "metrics.jsonl").stat().st_size for n in range(1, 6))


def test_older_checkpoints_stay_until_there_are_two_new_ones(folder: RunFolder) -> None:
    save(folder, 1, 2)
    save(folder, 3)
    assert checkpoints(folder) == [
        "attempts/1/checkpoint.prev.pt",
        "attempts/1/checkpoint.pt",
        "attempts/2/checkpoint.pt",
    ]
    (folder.path / "attempts" / "2" / "checkpoint.pt").write_bytes(b"damaged")
    assert folder.last_state() == {"step": 2}


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_resumed_at_its_last_step_keeps_the_checkpoint_it_came_from(
    folder: RunFolder, damaged: bool
) -> None:
    save(folder, 1, 2)
    save(folder, 3)
    if damaged:
        (folder.path / "attempts" / "2" / "checkpoint.pt").write_bytes(b"damaged")
    with folder.start() as attempt:
        assert attempt.resume() == {"step": 2 if damaged else 3}
        attempt.publish(make_record(make_spec()))
    assert checkpoints(folder) == [f"attempts/{1 if damaged else 2}/checkpoint.pt"]
    assert folder.last_state() == {"step": 2 if damaged else 3}


def test_an_attempt_that_was_taken_over_leaves_the_files_of_the_newer_one(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder.start(0, job="7")
    first.checkpoint({"step": 1})
    with folder.start(1, job="7") as second:
        second.checkpoint({"step": 2})
        with pytest.raises(RunFenced):
            first.checkpoint({"step": 1})
        monkeypatch.setattr(first, "fenced", lambda: False)  # it looked just before it was taken over
        first.checkpoint({"step": 3})  # its second one
        assert "attempts/2/checkpoint.pt" in checkpoints(folder)
        assert first.publish(make_record(make_spec())) is True
        assert checkpoints(folder) == ["attempts/1/checkpoint.pt", "attempts/2/checkpoint.pt"]
    first.close()


def test_a_store_that_cannot_be_read_is_a_fault_of_the_storage(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with folder.start() as attempt:
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", stale)
            for work in (
                folder.start,
                attempt.resume,
                attempt.fenced,
                lambda: attempt.checkpoint({"step": 1}),
                lambda: attempt.publish(make_record(make_spec())),
            ):
                with pytest.raises(StorageError, match="attempts: Stale file handle"):
                    work()
        with monkeypatch.context() as patch:
            patch.setattr(lease, "read_lease", stale)
            with pytest.raises(StorageError, match="attempts: Stale file handle"):
                folder.start()
        attempt.checkpoint({"step": 1})  # the same works once the disk answers again


def test_what_the_task_declares_is_read_back(folder: RunFolder) -> None:
    assert folder.description() is None
    with folder.start() as attempt:
        assert folder.description() is None  # an attempt that has not written it yet
        attempt.provenance(
            {"protocol": "1.0", "task": msgspec.to_builtins(TASK), "git": {"diff": "x" * 1000}}
        )
        assert folder.description() == TASK
        attempt.provenance({"protocol": "1.0", "task": {"tier": "odd"}})
        assert folder.description() is None
        other = msgspec.structs.replace(TASK, validation="")
        attempt.publish(make_record(make_spec(), task=other))
    assert folder.description() == other
