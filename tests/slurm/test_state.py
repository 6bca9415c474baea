"""Where runs are, from recorded answers of squeue and sacct."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from slurm import state
from slurm.client import Silent
from slurm.submission import FOLDER, submissions
from suite.errors import SteppeError
from suite.status import scheduler
from suite.store.folders import Store
from tests.slurm.fake_queue import FakeQueue, handed, runs
from tests.suite.fake_records import finish, make_spec

ONE = make_spec(0)


@pytest.mark.parametrize(
    ("word", "reason", "wanted"),
    [
        ("PENDING", "Priority", ("pending", "Priority")),
        ("PENDING", "None", ("pending", "")),
        ("PENDING", "BeginTime", ("pending", "BeginTime")),
        ("CONFIGURING", "None", ("pending", "CONFIGURING")),
        ("REQUEUED", "None", ("pending", "REQUEUED")),
        ("RUNNING", "None", ("running", "")),
        ("COMPLETING", "None", ("running", "COMPLETING")),
        ("SUSPENDED", "None", ("running", "SUSPENDED")),
        ("COMPLETED", "None", ("left", "")),
        ("FAILED", "NonZeroExitCode", ("left", "FAILED")),
        ("CANCELLED", "JobHeldUser", ("left", "CANCELLED")),
        ("TIMEOUT", "TimeLimit", ("left", "TIMEOUT")),
        ("OUT_OF_MEMORY", "None", ("left", "OUT_OF_MEMORY")),
        ("NODE_FAIL", "NodeDown", ("left", "NODE_FAIL")),
        ("PREEMPTED", "None", ("left", "PREEMPTED")),
        ("A_STATE_TO_COME", "None", ("running", "A_STATE_TO_COME")),
    ],
)
def test_every_word_of_squeue(
    store: Store, queue: FakeQueue, word: str, reason: str, wanted: tuple[str, str]
) -> None:
    batch = handed(store, [[ONE]]).batches[0]
    queue.has(batch, 0, word, reason)
    placed = state.look(store.root)[ONE.run_id]
    assert (placed.state, placed.reason) == wanted
    assert placed.cancelled == (word == "CANCELLED")
    assert (placed.job, placed.workers) == ("100_0", 2)
    assert Path(placed.log) == batch.folder / "100_0_0_log.out"


@pytest.mark.parametrize("word", ["NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])
def test_an_end_that_may_be_followed_by_a_requeue_is_not_believed_at_once(
    store: Store, queue: FakeQueue, word: str
) -> None:
    batch = handed(store, [[ONE]]).batches[0]
    queue.has(batch, 0, word, ended_s=1)
    placed = state.look(store.root)[ONE.run_id]
    assert (placed.state, placed.reason) == ("pending", word)


@pytest.mark.parametrize(
    ("word", "reason", "hint"),
    [
        ("PENDING", "launch failed requeued held", "scontrol release 100_0"),
        ("PENDING", "JobHeldUser", "scontrol release 100_0"),
        ("REQUEUE_HOLD", "None", "scontrol release 100_0"),
        ("SPECIAL_EXIT", "None", "scontrol release 100_0"),
        ("PENDING", "DependencyNeverSatisfied", "steppe cancel {}"),
        ("PENDING", "Priority", ""),
        ("RUNNING", "None", ""),
    ],
)
def test_what_waits_for_somebody(store: Store, queue: FakeQueue, word: str, reason: str, hint: str) -> None:
    submission = handed(store, [[ONE]])
    queue.has(submission.batches[0], 0, word, reason)
    assert state.look(store.root)[ONE.run_id].hint == hint.format(submission.name)


def test_one_question_for_all_and_a_task_for_each_pack(store: Store, queue: FakeQueue) -> None:
    a, b, c, d = runs(0, 1, 2, 3)
    submission = handed(store, [[a, b], [c]], [[d]])
    first, second = submission.batches
    queue.has(first, 0, "RUNNING")
    queue.has(first, 1, "PENDING", "Resources")
    queue.has(second, 0, "PENDING", "Resources", job=101)
    placed = state.look(store.root)
    assert [placed[spec.run_id].job for spec in (a, b, c, d)] == ["100_0", "100_0", "100_1", "101_0"]
    assert [placed[spec.run_id].state for spec in (a, b, c, d)] == ["running"] * 2 + ["pending"] * 2
    assert placed[a.run_id].node == "n1"
    assert queue.asked == ["squeue"]
    assert f"--user={os.getuid()}" in queue.calls[0]


def test_strangers_in_the_queue_are_passed_over(store: Store, queue: FakeQueue) -> None:
    batch = handed(store, [[ONE]]).batches[0]
    queue.rows += [
        "7|bash|RUNNING|N/A|n1|None",
        "8|a|name|with|bars|RUNNING|N/A|n1|None",
        "9_0|steppe-20200101-000000-0000.0|RUNNING|N/A|n1|None",  # of another store
        f"10|{batch.job_name}|RUNNING|N/A|n1|None",  # no array
        "",
        "torn|",
    ]
    assert state.look(store.root)[ONE.run_id].state == "left"
    queue.has(batch, 0, "RUNNING")
    assert state.look(store.root)[ONE.run_id].state == "running"


def test_a_job_is_known_by_its_name_and_its_id_written_down(store: Store, queue: FakeQueue) -> None:
    batch = handed(store, [[ONE]]).batches[0]
    queue.has(batch, 0, "PENDING", "Resources")
    assert batch.job is None
    assert state.look(store.root)[ONE.run_id].state == "pending"
    assert batch.job == "100"


def test_what_never_reached_the_queue(store: Store, queue: FakeQueue) -> None:
    handed(store, [[ONE]])
    placed = state.look(store.root)[ONE.run_id]
    assert (placed.state, placed.reason, placed.job, placed.log) == (
        "left",
        "never reached the queue",
        "",
        "",
    )
    assert queue.asked == ["squeue"]  # sacct has nothing to be asked for


def test_what_is_being_submitted_is_on_its_way_for_who_only_looks(store: Store, queue: FakeQueue) -> None:
    old, new = runs(0, 1)
    handed(store, [[old]])
    handed(store, [[new]])
    with (store.root / FOLDER / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        watching = state.look(store.root, patient=True)
        holding = state.look(store.root)
    assert sorted(watching[spec.run_id].state for spec in (old, new)) == ["left", "pending"]
    assert {placed.state for placed in holding.values()} == {"left"}
    assert {placed.state for placed in state.look(store.root, patient=True).values()} == {"left"}


def test_the_newest_place_counts_unless_only_an_older_one_is_in_the_queue(
    store: Store, queue: FakeQueue
) -> None:
    old = handed(store, [[ONE]])
    os.rename(old.folder, old.folder.with_name("20200101-000000-0000"))
    older = submissions(store.root)[0].batches[0]
    newer = handed(store, [[ONE]])
    queue.has(newer.batches[0], 0, "PENDING", job=101)
    queue.has(older, 0, "CANCELLED", job=100)
    assert state.look(store.root)[ONE.run_id].submission == newer.name
    queue.rows.clear()
    queue.has(newer.batches[0], 0, "FAILED", job=101)
    queue.has(older, 0, "PENDING", job=100)  # a node that came back
    assert state.look(store.root)[ONE.run_id].job == "100_0"


def test_two_jobs_of_one_batch(store: Store, queue: FakeQueue) -> None:
    """The answer of a first sbatch may have been lost."""
    batch = handed(store, [[ONE]]).batches[0]
    queue.has(batch, 0, "RUNNING", job=100)
    queue.has(batch, 0, "CANCELLED", job=101)
    assert state.look(store.root)[ONE.run_id].job == "100_0"


@pytest.mark.parametrize("gone", ["0/packs.json", "submission.json", "0", "."])
def test_a_submission_that_is_taken_back_just_then(
    store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    a, b = runs(0, 1)
    handed(store, [[a]])
    taken = handed(store, [[b]])
    listed = submissions(store.root)
    path = taken.folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.setattr(state, "submissions", lambda _: listed)
    assert state.look(store.root)[a.run_id].state == "left"
    assert state.in_queue(store.root) == []


@pytest.mark.parametrize("damaged", ["0/packs.json", "submission.json"])
def test_one_that_is_damaged_is_named(store: Store, queue: FakeQueue, damaged: str) -> None:
    path = handed(store, [[ONE]]).folder / damaged
    path.write_text("{")
    with pytest.raises(SteppeError, match=f"{damaged} is half-written or corrupt"):
        state.look(store.root)


# -- accounting --------------------------------------------------------------------------------------


def test_one_call_of_sacct_tells_how_jobs_left(store: Store, queue: FakeQueue) -> None:
    specs = runs(*range(7))
    first, second = handed(store, [[spec] for spec in specs[:5]], [[specs[5]], [specs[6]]]).batches
    first.set_job("100")
    second.set_job("101")
    finish(store, specs[4])
    queue.accounting = [
        f"100_0|{first.job_name}|OUT_OF_MEMORY|0:125",
        f"100_1|{first.job_name}|FAILED|0:9",
        f"100_2|{first.job_name}|FAILED|3:0",
        f"100_3|{first.job_name}|COMPLETED|0:0",
        f"100_4|{first.job_name}|NODE_FAIL|0:0",
        f"101_0|{second.job_name}|RUNNING|0:0",
        f"101_[1-40]|{second.job_name}|CANCELLED by 0|0:0",
    ]
    placed = state.look(store.root)
    reasons = [placed[spec.run_id].reason for spec in specs if spec is not specs[4]]
    assert reasons == [
        "OUT_OF_MEMORY",
        "FAILED signal 9",
        "FAILED exit 3",
        "",
        "gone from the queue, RUNNING in the accounting",
        "CANCELLED",
    ]
    assert [placed[spec.run_id].cancelled for spec in specs] == [False] * 6 + [True]
    assert queue.asked == ["squeue", "sacct"]
    assert "--jobs=100,101" in queue.calls[1]


def test_ids_that_were_handed_out_twice_tell_nothing(store: Store, queue: FakeQueue) -> None:
    batch = handed(store, [[ONE]]).batches[0]
    batch.set_job("100")
    queue.accounting = ["100_0|somebody-else|FAILED|1:0", "100_0|steppe-20200101-000000-0000.0|TIMEOUT|0:0"]
    placed = state.look(store.root)[ONE.run_id]
    assert (placed.state, placed.reason, placed.job) == ("left", "", "100_0")


def test_without_accounting_it_has_left(store: Store, queue: FakeQueue) -> None:
    handed(store, [[ONE]]).batches[0].set_job("100")
    assert state.look(store.root)[ONE.run_id].state == "left"
    assert queue.asked == ["squeue", "sacct"]


def test_sacct_is_not_asked_for_what_is_done_or_known(store: Store, queue: FakeQueue) -> None:
    done, failed = runs(0, 1)
    batch = handed(store, [[done], [failed]]).batches[0]
    batch.set_job("100")
    finish(store, done)
    queue.has(batch, 1, "FAILED", "NonZeroExitCode")
    state.look(store.root)
    assert queue.asked == ["squeue"]


def test_nobody_is_asked_where_all_is_done(store: Store, queue: FakeQueue) -> None:
    handed(store, [[ONE]])
    finish(store, ONE)
    queue.silent = True
    assert state.look(store.root)[ONE.run_id].state == "left"
    assert queue.calls == []


# -- errors -------------------------------------------------------------------------------------------


def test_a_task_that_was_taken_back_is_cancelled_once_it_left(store: Store, queue: FakeQueue) -> None:
    a, b = runs(0, 1)
    batch = handed(store, [[a], [b]]).batches[0]
    batch.set_job("100")
    batch.cancel([1])
    placed = state.look(store.root)
    assert [placed[spec.run_id].cancelled for spec in (a, b)] == [False, True]
    queue.has(batch, 1, "RUNNING")
    assert not state.look(store.root)[b.run_id].cancelled


def test_a_silent_scheduler_is_an_error(store: Store, queue: FakeQueue) -> None:
    handed(store, [[ONE]])
    queue.silent = True
    with pytest.raises(Silent, match="does not answer"):
        state.look(store.root)


def test_the_suite_finds_it_by_name(store: Store, queue: FakeQueue) -> None:
    assert scheduler.look(store.root) is None
    batch = handed(store, [[ONE]]).batches[0]
    queue.has(batch, 0, "RUNNING")
    placed = scheduler.look(store.root)
    assert placed is not None
    assert placed[ONE.run_id].state == "running"


def test_what_is_in_the_queue(store: Store, queue: FakeQueue) -> None:
    a, b, c = runs(0, 1, 2)
    batch = handed(store, [[a], [b, c]]).batches[0]
    queue.has(batch, 0, "COMPLETED")
    queue.has(batch, 1, "PENDING", "Priority")
    assert [(task.job, task.runs) for task in state.in_queue(store.root)] == [("100_1", (b.run_id, c.run_id))]
    assert state.in_queue(store.root / "nowhere") == []
