"""The worker of an array task without SLURM: made-up variables, and a scontrol that only notes its calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from slurm.profiles import Profile
from slurm.requeue import IDLE_STARTS
from slurm.signals import SignalState
from slurm.submission import Batch, SubmissionConfig, create
from slurm.worker import RetryPolicy, Task, work
from suite.errors import SteppeError
from suite.store.folders import RunFolder, Store
from tests.suite.fake_records import make_run, make_spec

ENTRY = "tests.suite.workers.fake_run:run_one"
WAIT_S = 40
QUICK = RetryPolicy(storage_s=(0.1, 0.1), busy_s=30.0, poll_s=0.05)
PROFILE = Profile("test", time_min=5)


@pytest.fixture
def signals() -> Iterator[SignalState]:
    """A state that leaves pytest its own signal handlers."""
    numbers = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield SignalState()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def pack(
    root: Path, *kinds: str, profile: Profile = PROFILE, workers: int = 1, **config: Any
) -> tuple[Batch, list[RunFolder]]:
    """A submission with one pack of fake runs, each of its kind."""
    store = Store(root)
    runs = [make_run(store, make_spec(seed, kind)) for seed, kind in enumerate(kinds)]
    full = SubmissionConfig("", structs.replace(profile, workers=workers), **config)
    (batch,) = create(root, full, [[[run.run_id for run in runs]]]).batches
    return batch, runs


def task(job: int = 7, restart_count: int = 0) -> Task:
    return Task(f"{job}_0", 0, restart_count)


def attempts(run: RunFolder) -> int:
    return len(list(run.path.glob("attempts/*")))


def test_a_pack_is_brought_to_records_and_another_start_finds_it_done(
    tmp_path: Path, signals: SignalState, capfd: pytest.CaptureFixture[str]
) -> None:
    batch, runs = pack(tmp_path, "fine", "diverges", "fine", workers=2, data=str(tmp_path), plugins=())
    assert work(batch, task(), signals, QUICK, ENTRY) == 0
    assert [run.status() for run in runs] == ["done", "failed", "done"]
    told = {k: v for event in runs[0].events() for k, v in event.items()}
    assert (told["data"], told["job"], told["checkpoint_s"]) == (str(tmp_path), "7_0", 60.0)
    said = capfd.readouterr().err.splitlines()
    assert "job 7_0, restart 0, node" in said[0]
    assert said[0].endswith("3 of 3 runs to do")
    assert sum(" done " in line for line in said) == 2
    assert said[-1].endswith("3 of 3 runs have their records")

    assert work(batch, task(restart_count=1), signals, QUICK, ENTRY) == 0
    said = capfd.readouterr().err.splitlines()
    assert "restart 1" in said[0]
    assert len(said) == 2
    assert [attempts(run) for run in runs] == [1, 1, 1]


def test_one_run_that_fails_leaves_its_reason_and_the_others_go_on(
    tmp_path: Path, signals: SignalState
) -> None:
    batch, runs = pack(tmp_path, "raises", "mistaken", "killed", "edited", "fine")
    raises, mistaken, killed, edited, fine = runs
    spec = edited.path / "spec.json"
    spec.write_text(spec.read_text().replace('"lr": 0.1', '"lr": 0.2'))
    assert work(batch, task(), signals, QUICK, ENTRY) == 1
    assert [run.status() for run in runs] == ["error"] * 4 + ["done"]
    reasons = {run: run.error() for run in runs[:4]}
    assert [reason.message if reason else "" for reason in reasons.values()] == [
        "ValueError: the first line",
        "rho=-1 is out of range",
        "its worker process was killed by SIGKILL; out of memory?",
        f"{spec} is corrupt (it gives run id {reasons_id(spec)}): give the same `steppe run` again, "
        "which writes it anew",
    ]
    told = reasons[raises]
    assert told is not None
    assert (told.job, told.outcome, told.attempt) == ("7_0", "error", 1)
    assert Path(told.log).read_text().rstrip().endswith("the second line")
    assert work(batch, task(restart_count=1), signals, QUICK, ENTRY) == 1  # a fault would only repeat itself
    assert [attempts(run) for run in runs] == [1, 1, 1, 0, 1]
    assert work(batch, task(job=8), signals, QUICK, ENTRY) == 1  # `steppe retry` gives a new job
    assert [attempts(run) for run in runs] == [2, 2, 2, 0, 1]
    assert fine.status() == "done"
    assert mistaken.status() == killed.status() == "error"


def reasons_id(spec: Path) -> str:
    import json

    from suite.spec import RunSpec

    return RunSpec.from_dict(json.loads(spec.read_text())).run_id


def test_a_run_that_another_process_works_on_waits_until_it_is_free(
    tmp_path: Path, signals: SignalState
) -> None:
    batch, (held, first, second) = pack(tmp_path, "fine", "fine", "fine")
    attempt = held.start()

    def leave() -> None:
        until = time.monotonic() + WAIT_S
        while second.record() is None and time.monotonic() < until:
            time.sleep(0.02)
        attempt.close()

    thread = threading.Thread(target=leave)
    thread.start()
    assert work(batch, task(), signals, QUICK, ENTRY) == 0
    thread.join()
    assert first.status() == held.status() == "done"
    assert attempts(held) == 2


def test_a_run_whose_owner_lives_is_left_to_it(
    tmp_path: Path, signals: SignalState, capfd: pytest.CaptureFixture[str]
) -> None:
    batch, (held, other) = pack(tmp_path, "fine", "fine")
    with held.start():
        assert work(batch, task(), signals, RetryPolicy(busy_s=0.2, poll_s=0.05), ENTRY) == 1
        assert held.status() == "running"
    assert other.status() == "done"
    assert f"left to the processes that run them: {held.run_id}" in capfd.readouterr().err
    assert held.error() is None


def test_a_restart_takes_over_from_the_start_before_it_at_once(tmp_path: Path, signals: SignalState) -> None:
    batch, (run,) = pack(tmp_path, "fine")
    with run.start(job="7_0"):
        assert work(batch, task(restart_count=1), signals, RetryPolicy(busy_s=0.0), ENTRY) == 0
    assert [event["why"] for event in run.events() if event["event"] == "start"][
        -1
    ] == "restarted by the scheduler"


def test_a_run_that_was_overtaken_is_no_fault(tmp_path: Path, signals: SignalState) -> None:
    batch, (run,) = pack(tmp_path, "overtaken")
    assert work(batch, task(), signals, RetryPolicy(busy_s=0.0, poll_s=0.05), ENTRY) == 1
    assert run.error() is None
    assert run.status() == "interrupted"


def test_a_store_that_refuses_writes_for_a_while_costs_time_only(
    tmp_path: Path, signals: SignalState
) -> None:
    batch, (refused, fine) = pack(tmp_path, "refused", "fine")
    (refused.path / "refusals").write_text("2")
    assert work(batch, task(), signals, QUICK, ENTRY) == 0
    assert (refused.status(), attempts(refused)) == ("done", 3)
    assert (fine.status(), attempts(fine)) == ("done", 1)


def test_a_store_that_refuses_for_long_is_given_up(tmp_path: Path, signals: SignalState) -> None:
    batch, (refused,) = pack(tmp_path, "refused")
    (refused.path / "refusals").write_text("3")
    assert work(batch, task(), signals, QUICK, ENTRY) == 1
    run_error = refused.error()
    assert run_error is not None
    assert run_error.outcome == "storage"
    assert run_error.message.startswith("no space left to write")
    assert work(batch, task(restart_count=1), signals, QUICK, ENTRY) == 0  # and a later start heals it


def test_what_was_cancelled_does_not_come_back(tmp_path: Path, signals: SignalState) -> None:
    batch, (run,) = pack(tmp_path, "fine")
    batch.cancel([0])
    assert work(batch, task(restart_count=1), signals, QUICK, ENTRY) == 1
    assert run.status() == "queued"


def test_outside_an_array_it_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    with pytest.raises(SteppeError, match=r"started by SLURM .* `steppe submit`"):
        Task.current()


def test_its_place_in_slurm_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "55")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert Task.current() == Task("55_3", 3, 0)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert Task.current() == Task("55_3", 3, 2)


def test_a_pack_that_is_not_there_is_a_mistake(tmp_path: Path, signals: SignalState) -> None:
    batch, _ = pack(tmp_path, "fine")
    with pytest.raises(SteppeError, match=r"packs.json has no pack 1"):
        work(batch, Task("7_1", 1, 0), signals, QUICK, ENTRY)


# -- signals ---------------------------------------------------------------------------------------------

MAIN = """
import sys
from pathlib import Path
from slurm.signals import SignalState
signals = SignalState()
from slurm.submission import Batch
from slurm.worker import Task, work
code = work(Batch(Path(sys.argv[1])), Task.current(), signals, entry=sys.argv[2])
signals.close()
sys.exit(code)
"""


class Worker:
    """A worker in a process group of its own, whose scontrol notes its calls and answers as told.

    `state` is what squeue says of its job after a last call.
    """

    def __init__(
        self,
        tmp_path: Path,
        batch: Batch,
        restart_count: int = 0,
        answer: int = 0,
        state: str = "COMPLETING",
    ) -> None:
        tools = tmp_path / "bin"
        tools.mkdir(exist_ok=True)
        queue = tools / "squeue"
        queue.write_text(f"#!/bin/sh\necho {state}\n")
        queue.chmod(0o755)
        self._asked = tmp_path / "asked"
        script = tools / "scontrol"
        script.write_text(f'#!/bin/sh\necho "$@" >> {self._asked}\necho no such luck >&2\nexit {answer}\n')
        script.chmod(0o755)
        place = {
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": "0",
            "SLURM_RESTART_COUNT": str(restart_count),
        }
        environment = {**os.environ, **place, "PATH": f"{tools}:{os.environ['PATH']}"}
        command = [sys.executable, "-c", MAIN, str(batch.folder), ENTRY]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        self.said = ""

    def signal(self, number: signal.Signals) -> None:
        """As srun does it: to every process of the step."""
        os.killpg(self.process.pid, number)

    def read_header(self) -> None:
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()

    def end(self) -> int:
        _, rest = self.process.communicate(timeout=WAIT_S)
        self.said += rest
        return self.process.returncode

    @property
    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines() if self._asked.exists() else []


def wait_until(true: Any, what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, f"not within {WAIT_S} s: {what}"
        time.sleep(0.02)


def at_work(run: RunFolder) -> bool:
    return any(event["event"] == "where" for event in run.events())


def test_warned_it_saves_and_is_requeued(tmp_path: Path) -> None:
    batch, (first, second, third) = pack(tmp_path / "store", "waits", "waits", "fine", workers=2)
    worker = Worker(tmp_path, batch)
    wait_until(lambda: at_work(first) and at_work(second), "both at work")
    worker.signal(signal.SIGUSR2)
    assert worker.end() == 1
    assert worker.asked == ["requeue 7_0"]
    assert "SIGUSR2, a warning: saving at the next step" in worker.said
    assert "\nrequeued\n" in worker.said
    assert [run.status() for run in (first, second, third)] == ["interrupted", "interrupted", "queued"]
    assert [[*run.events()][-1]["event"] for run in (first, second)] == ["stopped", "stopped"]


def test_in_the_grace_of_a_preemption_without_a_warning_it_is_requeued(tmp_path: Path) -> None:
    batch, (run,) = pack(tmp_path / "store", "waits")
    worker = Worker(tmp_path, batch, state="RUNNING")
    wait_until(lambda: at_work(run), "at work")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 1
    assert worker.asked == ["requeue 7_0"]
    assert run.status() == "interrupted"


def test_at_the_last_call_it_saves_and_stays_ended_however_often_it_comes(tmp_path: Path) -> None:
    batch, (run,) = pack(tmp_path / "store", "waits")
    worker = Worker(tmp_path, batch)
    wait_until(lambda: at_work(run), "at work")
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 1
    assert worker.asked == []
    assert "SIGTERM, the last call" in worker.said
    assert run.status() == "interrupted"
    assert [*run.events()][-1]["event"] == "stopped"


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_a_signal_while_processes_start_kills_none(tmp_path: Path, after_s: float) -> None:
    batch, runs = pack(tmp_path / "store", "waits", "waits", "waits", workers=3)
    worker = Worker(tmp_path, batch)
    worker.read_header()
    time.sleep(after_s)
    for _ in range(20):
        worker.signal(signal.SIGUSR2)
        time.sleep(0.005)
    assert worker.end() == 1
    assert worker.asked == ["requeue 7_0"]
    assert {run.status() for run in runs} <= {"interrupted", "queued"}


def test_warned_after_a_cancellation_it_stays_ended(tmp_path: Path) -> None:
    batch, (run,) = pack(tmp_path / "store", "waits")
    worker = Worker(tmp_path, batch)
    wait_until(lambda: at_work(run), "at work")
    batch.cancel([0])
    worker.signal(signal.SIGUSR2)
    assert worker.end() == 1
    assert worker.asked == []


def test_a_requeue_that_is_refused_is_said_and_harmless(tmp_path: Path) -> None:
    batch, (run,) = pack(tmp_path / "store", "waits")
    worker = Worker(tmp_path, batch, answer=1)
    wait_until(lambda: at_work(run), "at work")
    worker.signal(signal.SIGUSR2)
    assert worker.end() == 1
    assert worker.asked == ["requeue 7_0"]
    assert "not requeued by itself" in worker.said
    assert "no such luck" in worker.said
    assert run.status() == "interrupted"


def test_starts_that_lead_nowhere_come_to_an_end(tmp_path: Path) -> None:
    short = Profile("test", time_min=1, signal_s=30)  # which SLURM may warn of as soon as a start begins
    batch, (run, waiting) = pack(tmp_path / "store", "waits", "fine", profile=short)
    for start in range(IDLE_STARTS):
        worker = Worker(tmp_path, batch, restart_count=start)
        wait_until(lambda start=start: at_work(run) and attempts(run) == start + 1, "at work")
        worker.signal(signal.SIGUSR2)
        assert worker.end() == 1
        assert len(worker.asked) == min(start + 1, IDLE_STARTS - 1)
    run_error = run.error()
    assert run_error is not None
    assert "its time limit of 1 min is too short" in run_error.message
    assert (run.status(), waiting.status()) == ("error", "queued")


def test_preempted_starts_do_not_end_it(tmp_path: Path) -> None:
    batch, (run,) = pack(tmp_path / "store", "waits")
    for start in range(3):
        worker = Worker(tmp_path, batch, restart_count=start)
        wait_until(lambda start=start: at_work(run) and attempts(run) == start + 1, "at work")
        worker.signal(signal.SIGUSR2)
        assert worker.end() == 1
        assert len(worker.asked) == start + 1
    assert run.status() == "interrupted"


def test_a_run_that_does_not_come_to_save_is_requeued_in_time(tmp_path: Path) -> None:
    batch, (run,) = pack(tmp_path / "store", "stubborn", profile=Profile("test", signal_s=1))
    worker = Worker(tmp_path, batch)
    wait_until(lambda: at_work(run), "at work")
    worker.signal(signal.SIGUSR2)
    wait_until(lambda: worker.asked, "the request")
    assert worker.process.poll() is None
    worker.signal(signal.SIGKILL)
    assert worker.end() == -signal.SIGKILL
    assert run.error() is None  # who was killed with it does not tell a tale
    assert worker.asked == ["requeue 7_0"]
