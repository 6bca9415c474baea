"""The scheduler is asked seldom, by one at a time, and holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from suite.errors import SteppeError
from suite.status.queue_poller import QueuePoller
from suite.status.scheduler import Placed

HERE = Path("store")


class Scheduler:
    """Answers with one run more each time; a clock that only the test moves."""

    def __init__(self) -> None:
        self.now, self.n_asked = 0.0, 0
        self.fault: Exception | None = None
        self.go = threading.Event()
        self.go.set()

    def __call__(self, root: Path) -> Mapping[str, Placed] | None:
        assert root == HERE
        self.n_asked += 1
        assert self.go.wait(60)
        if self.fault is not None:
            raise self.fault
        return {f"run {n}": Placed("pending", "name", "1_0") for n in range(self.n_asked)}

    def asker(self) -> QueuePoller:
        return QueuePoller(HERE, every_s=10.0, ask=self, clock=lambda: self.now)


def settled(asker: QueuePoller) -> int:
    """Let a question under way come to its answer; return the number of runs in that."""
    asker()
    for thread in threading.enumerate():
        if thread.name == "steppe-asker":
            thread.join(60)
    return len(asker().placed)


def test_the_first_call_has_an_answer_and_the_next_ones_the_same_for_a_while() -> None:
    scheduler = Scheduler()
    asker = scheduler.asker()
    assert len(asker().placed) == 1
    scheduler.now = 9.9
    assert settled(asker) == 1
    scheduler.now = 10.0
    assert settled(asker) == 2
    assert scheduler.n_asked == 2


def test_a_question_under_way_holds_nobody_up_and_is_the_only_one() -> None:
    scheduler = Scheduler()
    asker = scheduler.asker()
    asker()
    scheduler.go.clear()
    for _ in range(5):
        scheduler.now += 100
        assert len(asker().placed) == 1
    assert scheduler.n_asked == 2
    scheduler.go.set()
    assert settled(asker) == 2


@pytest.mark.parametrize("fault", [SteppeError("no answer"), OSError("no answer")])
def test_what_was_said_before_stands_while_there_is_no_answer(fault: Exception) -> None:
    scheduler = Scheduler()
    asker = scheduler.asker()
    asker()
    scheduler.fault, scheduler.now = fault, 20.0
    assert settled(asker) == 1
    assert asker().silent == "no answer"
    assert scheduler.n_asked == 2  # the next question has its time, too
    scheduler.fault, scheduler.now = None, 40.0
    assert settled(asker) == 3
    assert asker().silent == ""


def test_silence_from_the_start() -> None:
    scheduler = Scheduler()
    scheduler.fault = SteppeError("no answer")
    answer = scheduler.asker()()
    assert (answer.placed, answer.silent) == ({}, "no answer")


def test_a_store_that_no_scheduler_knows() -> None:
    assert QueuePoller(HERE, ask=lambda _: None)().placed == {}


def test_a_defect_is_not_taken_for_silence() -> None:
    def broken(_: Path) -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        QueuePoller(HERE, ask=broken)()
