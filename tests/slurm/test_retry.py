"""`steppe retry`: which runs, as they were submitted the last time, and never twice."""

from __future__ import annotations

import fcntl
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from slurm import client, dispatch
from slurm.cluster import Cluster
from slurm.dispatch import Plan, Request
from slurm.profiles import Profile
from slurm.submission import FOLDER, create
from suite.spec import RunSpec
from suite.status import scheduler
from suite.status.watch import Watch
from suite.store.folders import Store
from tests.slurm.fake_queue import CONFIG, FakeQueue, handed, play, runs
from tests.suite.cli.conftest import QueueState, steppe
from tests.suite.fake_records import begin, finish, make_run, make_spec


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    return play(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@dataclass
class Sent:
    """What would have been handed to the cluster: each request."""

    calls: list[Request] = field(default_factory=list)
    surveyed: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[list[str]]:
        return [sorted(call.run_ids) for call in self.calls]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, queue: FakeQueue) -> Sent:
    """Dispatch that writes a submission whose jobs all wait in the queue."""
    noted = Sent()

    def survey(profile: Profile) -> None:
        noted.surveyed.append(profile.name)

    def submit(
        store: Store, request: Request, cluster: Cluster | None, say: Callable[[str], None]
    ) -> tuple[Plan, Any]:
        noted.calls.append(request)
        submission = create(store.root, request.config, [[(run_id,) for run_id in request.run_ids]])
        for task in range(len(request.run_ids)):
            queue.has(submission.batches[0], task, "PENDING", job=1000 + len(noted.calls))
        return Plan(request.config), submission

    monkeypatch.setattr(dispatch, "survey", survey)
    monkeypatch.setattr(dispatch, "submit", submit)
    return noted


def retry(store: Store, *arguments: str) -> QueueState:
    return steppe("retry", *arguments, "--store", store.root)


@pytest.fixture
def mixed(store: Store, queue: FakeQueue) -> dict[str, RunSpec]:
    """A run in each state."""
    names = ("lost", "error", "interrupted", "cancelled", "failed", "done", "queued", "running", "local")
    specs = dict(zip(names, runs(*range(len(names))), strict=True))
    batch = handed(store, [[spec] for name, spec in specs.items() if name != "local"]).batches[0]
    queue.has(batch, 0, "NODE_FAIL")
    make_run(store, specs["error"]).record_error("error", "ValueError: no", job="100_1")
    queue.has(batch, 1, "FAILED")
    begin(store, specs["interrupted"])
    queue.has(batch, 2, "TIMEOUT")
    queue.has(batch, 3, "CANCELLED")
    finish(store, specs["failed"], "failed")
    finish(store, specs["done"])
    queue.has(batch, 6, "PENDING", "Priority")
    queue.has(batch, 7, "RUNNING")
    begin(store, specs["local"])
    return specs


def test_runs_go_seed_by_seed_again(store: Store, queue: FakeQueue, sent: Sent) -> None:
    order = [(seed, name) for seed in range(3) for name in ("nso", "sam", "sgd")]
    specs = [make_spec(seed, name) for seed, name in order]
    handed(store, [[spec] for spec in reversed(specs)])
    assert retry(store).code == 0
    assert sent.calls[0].run_ids == [spec.run_id for spec in specs]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), ("lost", "error", "interrupted")),
        (("--failed",), ("error",)),
        (("--lost",), ("lost",)),
        (("--cancelled",), ("cancelled",)),
        (("--lost", "--cancelled"), ("lost", "cancelled")),
    ],
)
def test_which_runs_and_never_twice(
    store: Store, mixed: dict[str, RunSpec], sent: Sent, options: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    assert retry(store, *options).code == 0
    assert sent.ids == [sorted(mixed[name].run_id for name in wanted)]
    again = retry(store, *options)
    assert again.code == 0
    assert again.lines[-1] == "nothing to retry"
    assert len(sent.calls) == 1


def test_what_is_left_alone_is_said(store: Store, mixed: dict[str, RunSpec], sent: Sent) -> None:
    lines = retry(store).lines
    assert "1 failed: that is in the records, and they are not repeated" in lines
    assert "1 cancelled: --cancelled retries them" in lines
    assert any(line.startswith("1 never handed to a cluster") for line in lines)


def test_runs_by_name(store: Store, mixed: dict[str, RunSpec], sent: Sent) -> None:
    names = ("cancelled", "lost", "failed", "queued")
    lines = retry(store, *(mixed[name].run_id for name in names)).lines
    assert sent.ids == [sorted(mixed[name].run_id for name in names[:2])]
    assert any("is failed: it has its record" in line for line in lines)
    queued = mixed["queued"].run_id
    told = f"(100_6); `steppe cancel {queued} --store {store.root}` takes it back"
    assert f"{queued} is queued and stays where it is {told}" in lines
    assert lines[-1] == f"`steppe status --watch --store {store.root}` follows them"


def test_commands_that_are_named_look_in_the_same_store(
    tmp_path: Path, queue: FakeQueue, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEPPE_STORE", "my runs")
    spec = runs(0)[0]
    handed(Store(tmp_path / "my runs"), [[spec]])
    assert steppe("retry").lines[-1] == "`steppe status --watch` follows them"
    queue.rows.clear()
    assert steppe("retry", "--store", "my runs").lines[-1] == (
        "`steppe status --watch --store 'my runs'` follows them"
    )
    (tmp_path / "my runs" / "runs" / spec.run_id / "spec.json").write_text("{")
    answer = steppe("retry", spec.run_id, "--store", "my runs")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"`steppe show {spec.run_id} --store 'my runs'` says why" in answer.err


def test_a_dry_run_names_nothing_to_follow(
    store: Store, queue: FakeQueue, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "plan", lambda *_, **__: None)
    monkeypatch.setattr(dispatch, "scripts", lambda *_: ["#!/bin/bash"])
    handed(store, [runs(0)])
    assert retry(store, "--dry-run").lines == ["#!/bin/bash"]


def test_as_the_last_time_or_with_another_profile(
    store: Store, queue: FakeQueue, sent: Sent, tmp_path: Path
) -> None:
    a, b, c = runs(0, 1, 2)
    big = replace(CONFIG, profile=Profile("big", memory="8G", workers=4), data="/data")
    handed(store, [[a]])
    handed(store, [[b]], config=big)
    handed(store, [[c]], config=replace(big, command="something else"))
    retry(store)
    assert sorted(sent.ids) == sorted([[a.run_id], sorted([b.run_id, c.run_id])])
    assert sorted(sent.surveyed) == ["big", "test"]
    config = next(call.config for call in sent.calls if call.config.profile.name == "big")
    assert (config.profile.workers, config.data, config.command) == (
        4,
        "/data",
        f"steppe retry --store {store.root}",
    )
    queue.rows.clear()
    sent.calls.clear()
    profile = tmp_path / "huge.toml"
    profile.write_text('memory = "64G"\nworkers = 3\n')
    retry(store, "--profile", str(profile))
    given = {call.config.profile.memory for call in sent.calls}
    assert given == {"64G"}
    assert {call.config.profile.workers for call in sent.calls} == {3}


def test_a_cluster_that_cannot_take_a_group_gets_none(
    store: Store, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.errors import SteppeError

    handed(store, [[runs(0)[0]]])
    handed(store, [[runs(1)[0]]], config=replace(CONFIG, profile=Profile("gone")))

    def survey(profile: Profile) -> None:
        if profile.name == "gone":
            raise SteppeError("no such partition")

    monkeypatch.setattr(dispatch, "survey", survey)
    answer = retry(store)
    assert (answer.code, sent.calls) == (2, [])
    assert answer.err == "steppe: error: no such partition\n"


@pytest.mark.parametrize("arguments", [("--lost", "0"), ("ffff",)])
def test_mistakes(store: Store, queue: FakeQueue, sent: Sent, arguments: tuple[str, ...]) -> None:
    handed(store, [runs(0)])
    answer = retry(store, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert sent.calls == []


def test_without_a_submission_it_says_what_to_do(store: Store, queue: FakeQueue) -> None:
    begin(store, runs(0)[0])
    answer = retry(store)
    assert answer.code == 2
    assert "`steppe submit`" in answer.err


def test_a_run_that_was_started_here_is_not_handed_over(
    store: Store, mixed: dict[str, RunSpec], sent: Sent
) -> None:
    answer = retry(store, mixed["local"].run_id)
    assert answer.code == 2
    assert "never handed to a cluster" in answer.err


def test_a_silent_scheduler_is_an_error_and_nothing_is_done(
    store: Store, queue: FakeQueue, sent: Sent
) -> None:
    handed(store, [runs(0)])
    queue.silent = True
    answer = retry(store)
    assert answer.code == 2
    assert "does not answer" in answer.err
    assert sent.calls == []


def test_what_somebody_submits_just_then_is_known(
    store: Store, queue: FakeQueue, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = runs(0, 1)
    handed(store, [[a]])

    def watch(*arguments: Any) -> Watch:
        handed(store, [[b]])
        return Watch(*arguments)

    monkeypatch.setattr("slurm.cli.retry.Watch", watch)
    assert retry(store).code == 0
    assert sent.ids == [sorted([a.run_id, b.run_id])]


def test_what_is_taken_back_just_then_is_left_out(
    store: Store, queue: FakeQueue, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = runs(0, 1)
    handed(store, [[a]])
    taken = handed(store, [[b]])

    def ask(*command: str, **options: float) -> str:
        shutil.rmtree(taken.folder, ignore_errors=True)
        return queue(*command, **options)

    monkeypatch.setattr(client, "ask", ask)
    answer = retry(store)
    assert answer.code == 0
    assert f"left out: {b.run_id}, as submission {taken.name} was just deleted" in answer.lines
    assert sent.ids == [[a.run_id]]


def test_dispatch_looks_itself_and_lets_in_what_nobody_handed_over(store: Store, queue: FakeQueue) -> None:
    """Who holds the lock finds a batch that a killed submitter left, as one to hand over."""
    spec = runs(0)[0]
    handed(store, [[spec]])
    seen = []
    with (store.root / FOLDER / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: seen.append(scheduler.look(store.root)))
        thread.start()
        thread.join()
    assert seen[0] is not None
    assert seen[0][spec.run_id].state == "left"
