"""`steppe cancel`: all that is in the queue, a submission, or the task of a run."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest

from slurm import client
from slurm.submission import submissions
from suite.store.folders import Store
from tests.slurm.fake_queue import FakeQueue, handed, runs
from tests.suite.cli.conftest import Printed, steppe
from tests.suite.fake_records import finish


def cancel(store: Store, *what: str) -> Printed:
    return steppe("cancel", *what, "--store", store.root)


def test_everything_in_one_call_after_it_was_written_down(store: Store, queue: FakeQueue) -> None:
    a, b, c, d = runs(0, 1, 2, 3)
    first, second = handed(store, [[a], [b]], [[c, d]]).batches
    queue.has(first, 0, "COMPLETED")
    queue.has(first, 1, "RUNNING")
    queue.has(second, 0, "PENDING", job=101)
    finish(store, a)
    finish(store, c)
    answer = cancel(store)
    assert answer.code == 0
    assert answer.lines[0] == "cancelling 1 running and 1 pending tasks with 2 runs to do"
    assert answer.lines[-1].endswith(f" `steppe retry --cancelled --store {store.root}` goes on with it")
    assert queue.calls[-1] == ("scancel", "100", "101")
    assert queue.asked.count("scancel") == 1
    assert (first.cancelled, second.cancelled) == (frozenset({1}), frozenset({0}))


def test_twice_and_with_nothing_there_is_no_mistake(store: Store, queue: FakeQueue) -> None:
    assert cancel(store).out == f"nothing of the store {store.root} was handed to a cluster\n"
    assert queue.calls == []
    batch = handed(store, [runs(0)]).batches[0]
    queue.has(batch, 0, "CANCELLED")
    answer = cancel(store)
    assert (answer.code, answer.out) == (0, "nothing is in the queue\n")
    assert queue.asked == ["squeue"]


def test_a_run_takes_its_pack_along_and_no_other(store: Store, queue: FakeQueue) -> None:
    a, b, c, d = runs(0, 1, 2, 3)
    batch = handed(store, [[a], [b, c, d]]).batches[0]
    finish(store, c)
    queue.has(batch, 0, "PENDING")
    queue.has(batch, 1, "RUNNING")
    answer = cancel(store, b.run_id[:8])
    assert answer.lines[1] == f"task 100_1 also holds {d.run_id}"
    assert queue.calls[-1] == ("scancel", "100_1")
    assert batch.cancelled == {1}


def test_a_submission(store: Store, queue: FakeQueue) -> None:
    first, second = handed(store, [[run] for run in runs(0, 1)]), handed(store, [runs(2)])
    queue.has(first.batches[0], 0, "PENDING")
    queue.has(first.batches[0], 1, "PENDING")
    queue.has(second.batches[0], 0, "PENDING", job=101)
    assert cancel(store, second.name).code == 0
    assert queue.calls[-1] == ("scancel", "101")
    assert first.batches[0].cancelled == frozenset()


def test_commands_that_are_named_look_in_the_same_store(
    tmp_path: Path, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    queue.has(handed(Store(tmp_path / "my runs"), [runs(0)]).batches[0], 0, "PENDING")
    wrong = steppe("cancel", "20200101-000000-0000", "--store", "my runs")
    assert "(`steppe status --json --store 'my runs'` lists them)" in wrong.err
    told = steppe("cancel", "--store", "my runs").lines[-1]
    assert "`steppe retry --cancelled --store 'my runs'`" in told
    monkeypatch.setenv("STEPPE_STORE", "my runs")  # which the commands obey too
    assert "`steppe retry --cancelled`" in steppe("cancel").lines[-1]


def test_two_cancels_add_up(store: Store, queue: FakeQueue) -> None:
    a, b = runs(0, 1)
    batch = handed(store, [[a], [b]]).batches[0]
    queue.has(batch, 0, "PENDING")
    queue.has(batch, 1, "PENDING")
    cancel(store, a.run_id)
    cancel(store, b.run_id)
    assert batch.cancelled == {0, 1}


@pytest.mark.parametrize("wrong", ["20200101-000000-0000", "ffff"])
def test_what_is_not_there(store: Store, queue: FakeQueue, wrong: str) -> None:
    submission = handed(store, [runs(0)])
    queue.has(submission.batches[0], 0, "PENDING")
    answer = cancel(store, wrong)
    assert (answer.code, answer.out) == (2, "")
    assert wrong in answer.err
    assert submission.name in answer.err or "no run" in answer.err
    assert "scancel" not in queue.asked


def test_a_silent_scheduler_is_an_error_and_nothing_is_done(store: Store, queue: FakeQueue) -> None:
    batch = handed(store, [runs(0)]).batches[0]
    queue.silent = True
    answer = cancel(store)
    assert answer.code == 2
    assert "does not answer" in answer.err
    assert batch.cancelled == frozenset()


def test_a_submission_that_was_deleted_just_then_is_passed_over(
    store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = handed(store, [runs(0)])
    queue.has(submission.batches[0], 0, "PENDING")

    def ask(*command: str, **options: float) -> str:
        shutil.rmtree(submission.folder, ignore_errors=True)
        return queue(*command, **options)

    monkeypatch.setattr(client, "ask", ask)
    answer = cancel(store)
    assert (answer.code, answer.out) == (0, "nothing is in the queue\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("said", "cancelled"), [("y\n", True), ("n\n", False), ("", False)])
def test_on_a_terminal_it_asks(
    store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch, said: str, cancelled: bool
) -> None:
    batch = handed(store, [runs(0)]).batches[0]
    queue.has(batch, 0, "RUNNING")
    monkeypatch.setattr(sys, "stdin", Terminal(said))
    monkeypatch.setattr(io, "StringIO", Terminal)  # what `steppe` collects the output in
    answer = cancel(store)
    assert answer.out.count("cancelling 1 running and 0 pending tasks with 1 runs to do") == 1
    assert ("scancel" in queue.asked) == cancelled
    assert submissions(store.root)[0].batches[0].cancelled == (frozenset({0}) if cancelled else frozenset())
    queue.calls.clear()
    assert cancel(store, "--yes").code == 0
    assert queue.asked == ["squeue", "scancel"]
