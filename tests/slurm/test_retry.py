"""`steppe retry`: which runs, as they were submitted the last time, and never twice."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from slurm import client
from slurm.profiles import Profile
from slurm.submission import FOLDER, Submission, submissions
from suite.spec import RunSpec
from suite.status import scheduler
from suite.status.watch import Watch
from suite.store.folders import Store
from tests.slurm.fake_queue import CONFIG, FakeQueue, handed, runs
from tests.suite.cli.conftest import Printed, steppe
from tests.suite.fake_records import begin, finish, make_run, make_spec


@dataclass
class Sent:
    """What the queue was given by `sbatch`, as it stands on disk."""

    queue: FakeQueue

    @property
    def submissions(self) -> list[Submission]:
        """The submissions in the order in which they came."""
        scripts = [Path(call[1]) for call in self.queue.calls if call[0] == "sbatch"]
        return [Submission(folder) for folder in dict.fromkeys(script.parents[1] for script in scripts)]

    @property
    def run_ids(self) -> list[list[str]]:
        """The runs of each submission in the order in which they start."""
        return [
            [run_id for batch in one.batches for pack in batch.packs for run_id in pack]
            for one in self.submissions
        ]

    @property
    def ids(self) -> list[list[str]]:
        """The same, sorted."""
        return sorted(sorted(run_ids) for run_ids in self.run_ids)


@pytest.fixture
def sent(queue: FakeQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Let the queue take what is submitted."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sbatch", "squeue", "sinfo", "scontrol"):
        (programs / name).write_text("#!/bin/false\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return Sent(queue)


def retry(store: Store, *arguments: str) -> Printed:
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
    assert sent.run_ids == [[spec.run_id for spec in specs]]


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
    expected = [sorted(mixed[name].run_id for name in wanted)]
    assert sent.ids == expected
    again = retry(store, *options)
    assert again.code == 0
    assert again.lines[-1] == "nothing to retry"
    assert sent.ids == expected


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


def test_a_dry_run_prints_the_script_and_hands_nothing_over(
    store: Store, queue: FakeQueue, sent: Sent
) -> None:
    handed(store, [runs(0)])
    before = submissions(store.root)
    lines = retry(store, "--dry-run").lines
    assert lines[0] == "#!/bin/bash"
    assert "#SBATCH --array=0-0%1" in lines
    assert not [line for line in lines if line.startswith("`steppe status")]
    assert submissions(store.root) == before
    assert "sbatch" not in queue.asked


def test_as_the_last_time_or_with_another_profile(
    store: Store, queue: FakeQueue, sent: Sent, tmp_path: Path
) -> None:
    a, b, c = runs(0, 1, 2)
    big = replace(CONFIG, profile=Profile("big", memory="8G", workers=4), data="/data")
    handed(store, [[a]])
    handed(store, [[b]], config=big)
    handed(store, [[c]], config=replace(big, command="something else"))
    retry(store)
    assert sent.ids == sorted([[a.run_id], sorted([b.run_id, c.run_id])])
    first = sent.submissions
    assert sorted(one.config.profile.name for one in first) == ["big", "test"]
    config = next(one.config for one in first if one.config.profile.name == "big")
    assert (config.profile.workers, config.data, config.command) == (
        4,
        "/data",
        f"steppe retry --store {store.root}",
    )
    queue.rows.clear()
    profile = tmp_path / "huge.toml"
    profile.write_text('memory = "32G"\nworkers = 3\n')
    retry(store, "--profile", str(profile))
    later = [one.config.profile for one in sent.submissions if one not in first]
    assert {(profile.memory, profile.workers) for profile in later} == {("32G", 3)}


def test_a_cluster_that_cannot_take_a_group_gets_none(store: Store, sent: Sent) -> None:
    handed(store, [[runs(0)[0]]])
    handed(store, [[runs(1)[0]]], config=replace(CONFIG, profile=Profile("gone", partition="lwo")))
    answer = retry(store)
    assert (answer.code, sent.ids) == (2, [])
    assert answer.err.startswith("steppe: error: unknown partition 'lwo'; did you mean 'low'")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--lost", "0"), ("ffff",)])
def test_mistakes(store: Store, queue: FakeQueue, sent: Sent, arguments: tuple[str, ...]) -> None:
    handed(store, [runs(0)])
    answer = retry(store, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert sent.ids == []


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
    assert sent.ids == []


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
