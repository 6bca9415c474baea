"""Which starts of a task are followed by another, with a scontrol that only notes its calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.client import Silent
from slurm.profiles import Profile
from slurm.requeue import IDLE_STARTS, Requeue
from suite.errors import SteppeError
from suite.store.folders import RunFolder, Store
from tests.suite.fake_records import make_run, make_spec

Asked = list[tuple[str, ...]]
USABLE_S = Profile(name="p", time_min=60, signal_s=120).usable_s
FULL_S = USABLE_S - 100
"""SLURM warned early, and not all of the time was this process's."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    noted: Asked = []
    monkeypatch.setattr("slurm.requeue.ask", lambda *command, timeout_s: noted.append(command))
    return noted


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has begun and saved nothing."""
    made = make_run(Store(tmp_path), make_spec())
    (made.path / "attempts" / "1").mkdir(parents=True)
    return made


@pytest.fixture
def start(tmp_path: Path, run: RunFolder, asked: Asked) -> Callable[..., Requeue]:
    """Play a start that is stopped after so many seconds."""

    def play(took_s: float, usable_s: float = USABLE_S, *, saves: bool = False) -> Requeue:
        now = [1000.0]
        requeue = Requeue("7_0", tmp_path / "idle-0", usable_s, lambda: now[0])
        requeue.begun(run)
        if saves:
            (run.path / "attempts" / "1" / "checkpoint.pt").write_text("saved")
        now[0] += took_s
        n_asked = len(asked)
        said = requeue.request()
        assert requeue.hopeless == said.startswith("not requeued")
        assert len(asked) == n_asked + (not requeue.hopeless)
        return requeue

    return play


def test_progress_allows_as_many_requeues_as_it_takes(tmp_path: Path, run: RunFolder, asked: Asked) -> None:
    saved = run.path / "attempts" / "1" / "checkpoint.pt"
    for start in range(5):
        requeue = Requeue("7_0", tmp_path / "idle-0")
        requeue.begun(run)
        if start != 2:  # one that led nowhere is forgiven, once the next got on
            saved.write_text(str(start))
            os.utime(saved, ns=(start, start + 1))
        assert requeue.request() == "requeued"
        assert not requeue.hopeless
    assert asked == [("scontrol", "requeue", "7_0")] * 5


def test_starts_that_were_preempted_while_their_runs_loaded_are_no_reason_to_give_up(
    start: Callable[..., Requeue],
) -> None:
    for took_s in (5.0, 60.0, USABLE_S / 2, 0.0, 5.0):
        assert not start(took_s).hopeless


def test_starts_that_used_up_their_time_come_to_an_end(start: Callable[..., Requeue]) -> None:
    hopeless = [start(FULL_S).hopeless for _ in range(IDLE_STARTS)]
    assert hopeless == [*[False] * (IDLE_STARTS - 1), True]


def test_a_preemption_in_between_neither_counts_nor_clears_them(start: Callable[..., Requeue]) -> None:
    assert not start(FULL_S).hopeless
    assert not start(5.0).hopeless
    assert start(FULL_S).hopeless


def test_progress_clears_them(start: Callable[..., Requeue]) -> None:
    assert not start(FULL_S).hopeless
    assert not start(5.0, saves=True).hopeless
    assert not start(FULL_S).hopeless


@pytest.mark.parametrize("usable_s", [0.0, 30.0])
def test_where_a_start_has_hardly_any_time_each_has_used_it_up(
    start: Callable[..., Requeue], usable_s: float
) -> None:
    assert not start(0.0, usable_s).hopeless
    assert start(0.0, usable_s).hopeless


def test_a_scheduler_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def requeue(*answers: Exception | None) -> str:
        left = iter(answers)

        def ask(*command: str, timeout_s: float) -> str:
            answer = next(left)
            if answer is not None:
                raise answer
            return ""

        monkeypatch.setattr("slurm.requeue.ask", ask)
        monkeypatch.setattr("slurm.requeue._PAUSES_S", (0.0, 0.0))
        return Requeue("7_0", tmp_path / f"idle-{len(answers)}-{answers[-1]}").request()

    silent, refused = Silent("no answer"), SteppeError("refused")
    assert requeue(silent, None) == "requeued"
    assert requeue(silent, refused) == "requeued"  # it had been heard
    assert "steppe retry" in requeue(refused)
    assert "steppe retry" in requeue(silent, silent, silent)
