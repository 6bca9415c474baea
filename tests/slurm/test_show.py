"""`steppe show` of runs that were handed to a cluster: where its queue has them."""

from __future__ import annotations

import pytest

from suite.status import scheduler
from suite.store.folders import Store
from tests.slurm.fake_queue import FakeQueue, handed, runs
from tests.suite.cli.conftest import steppe
from tests.suite.fake_records import finish, make_run

(ONE,) = runs(0)


def shown(store: Store) -> list[str]:
    """What it says of the queue."""
    lines = steppe("show", ONE.run_id, "--store", store.root).lines
    return [line.partition("queue ")[2].strip() for line in lines if line.startswith("  queue ")]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (("PENDING", "Priority"), "pending (Priority), job 100_0"),
        (("PENDING",), "pending, job 100_0"),
        (("RUNNING",), "running on n1, job 100_0"),
        (("TIMEOUT",), "left (TIMEOUT), job 100_0"),
        (("PENDING", "JobHeldUser"), "pending (JobHeldUser), job 100_0, `scontrol release 100_0`"),
        ((), "left (never reached the queue)"),
    ],
)
def test_it_says_in_one_line_where_the_run_is(
    store: Store, queue: FakeQueue, row: tuple[str, ...], wanted: str
) -> None:
    batch = handed(store, [[ONE]]).batches[0]
    if row:
        queue.has(batch, 0, *row)
    assert shown(store) == [wanted]
    assert queue.asked == ["squeue"]
    assert queue.waits == [scheduler.GLANCE_S]


def test_it_names_what_the_job_printed_and_programs_get_all_of_it(store: Store, queue: FakeQueue) -> None:
    submission = handed(store, [[ONE]])
    batch = submission.batches[0]
    queue.has(batch, 0, "RUNNING")
    log = batch.folder / "100_0_0_log.out"
    log.touch()
    assert shown(store) == [f"running on n1, job 100_0, {log}"]
    placed = steppe("show", ONE.run_id, "--store", store.root, "--json").json["placed"]
    wanted = {
        "submission": submission.name,
        "state": "running",
        "job": "100_0",
        "node": "n1",
        "log": str(log),
    }
    assert {key: placed[key] for key in wanted} == wanted


def test_nobody_is_asked_for_a_run_that_is_done_or_where_nothing_was_submitted(
    store: Store, queue: FakeQueue
) -> None:
    make_run(store, ONE)
    assert shown(store) == []
    handed(store, [[ONE]])
    finish(store, ONE)
    assert shown(store) == []
    assert queue.calls == []


def test_a_silent_scheduler_costs_that_line_only(store: Store, queue: FakeQueue) -> None:
    handed(store, [[ONE]])
    queue.silent = True
    (line,) = shown(store)
    assert line.startswith("unknown: SLURM does not answer")
    answer = steppe("show", ONE.run_id, "--store", store.root, "--json")
    assert (answer.code, answer.err, answer.json["placed"]) == (0, "", {})
    assert answer.json["scheduler_silent"].startswith("SLURM does not answer")
