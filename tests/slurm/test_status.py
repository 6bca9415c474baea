"""`steppe status` of runs that were handed to a cluster: every state, what mends it, and --watch."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.spec import RunSpec
from suite.status import monitor, scheduler
from suite.status.queue_poller import QueuePoller, QueueState
from suite.status.watch import Watch
from suite.store.attempt import Attempt
from suite.store.folders import Store
from suite.terminal.screen import Screen
from tests.slurm.fake_queue import FakeQueue, handed, runs
from tests.suite.cli.conftest import steppe
from tests.suite.fake_records import begin, finish, make_record, make_run


def states(store: Store) -> dict[str, str]:
    return {
        run["run_id"]: run["status"] for run in steppe("status", "--store", store.root, "--json").json["runs"]
    }


def die(store: Store, spec: RunSpec) -> None:
    """Leave what a process on a lost node leaves: a heartbeat that stopped."""
    folder = make_run(store, spec)
    attempt = folder.start()
    attempt.metrics({"epoch": 1, "step": 1})
    beat = attempt.path / "heartbeat"
    content = beat.read_bytes().replace(b'"pid": ', b'"pid": 9')  # a process that there is not
    attempt.close()
    beat.write_bytes(content)


def test_a_word_for_every_state(store: Store, queue: FakeQueue) -> None:
    specs = runs(*range(12))
    batch = handed(store, [[spec] for spec in specs]).batches[0]
    batch.set_job("100")
    batch.cancel([9])
    wanted: dict[int, str] = {}

    def case(seed: int, word: str, *row: str) -> None:
        wanted[seed] = word
        if row:
            queue.has(batch, seed, *row)

    case(0, "queued", "PENDING", "Priority")
    case(1, "queued", "RUNNING")  # its turn in the pack has not come
    begin(store, specs[2])
    case(2, "preempted", "PENDING", "BeginTime")
    begin(store, specs[3])
    case(3, "preempted", "RUNNING")  # begun anew, not yet there
    make_run(store, specs[4]).record_error("error", "ValueError: no", job="100_4")
    case(4, "error", "RUNNING")
    make_run(store, specs[5]).record_error("error", "ValueError: no", job="99_5")
    case(5, "queued", "PENDING", "Priority")  # retried: the error is that of the job before
    begin(store, specs[6])
    case(6, "interrupted", "TIMEOUT")  # it saved, and nobody started it again
    die(store, specs[7])
    case(7, "lost", "NODE_FAIL")
    case(8, "lost")
    case(9, "cancelled")
    finish(store, specs[10], "failed")
    case(10, "failed", "CANCELLED")
    begin(store, specs[11])
    case(11, "cancelled", "CANCELLED")
    assert states(store) == {specs[seed].run_id: word for seed, word in wanted.items()}


def test_what_needs_somebody_and_what_mends_it(store: Store, queue: FakeQueue) -> None:
    a, b, c, d, e = runs(0, 1, 2, 3, 4)
    batch = handed(store, [[spec] for spec in (a, b, c, d, e)]).batches[0]
    queue.has(batch, 0, "OUT_OF_MEMORY")
    queue.has(batch, 1, "PENDING", "launch failed requeued held")
    queue.has(batch, 2, "CANCELLED")
    queue.has(batch, 3, "FAILED")
    make_run(store, d).record_error("error", "ValueError: no", log=str(store.root / "d.log"), job="100_3")
    (store.root / "d.log").touch()
    begin(store, e)
    queue.has(batch, 4, "TIMEOUT")
    (batch.folder / "100_0_0_log.out").touch()
    given = f"--store {shlex.quote(str(store.root))}"
    answer = steppe("status", "--store", store.root)
    assert answer.code == 1
    assert "5 runs: 1 error, 1 interrupted, 1 queued, 1 lost, 1 cancelled" in answer.lines
    assert "in the queue: 1 pending (launch failed requeued held)" in answer.lines
    assert answer.lines[-9:] == [
        f"error: task sgd seed 3 (ValueError: no), log {store.root}/d.log",
        f"lost: task sgd seed 0 (OUT_OF_MEMORY), log {batch.folder}/100_0_0_log.out",
        f"interrupted: task sgd seed 4 (TIMEOUT, epoch 1/2), `steppe show {e.run_id} {given}`",
        "held: task sgd seed 1 (launch failed requeued held), `scontrol release 100_1`",
        f"error: `steppe retry --failed {given}` submits them to the cluster again",
        f"lost: `steppe retry --lost {given}` submits them to the cluster again",
        f"interrupted: `steppe retry {given}` submits them to the cluster again",
        f"cancelled runs resume with `steppe retry --cancelled {given}`",
        f"held jobs never start: `steppe cancel RUN {given}`, then `steppe retry RUN {given}`",
    ]


def test_what_will_never_begin_is_cancelled_in_its_own_store(
    tmp_path: Path, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "my runs")
    submission = handed(store, [runs(0)])
    queue.has(submission.batches[0], 0, "PENDING", "DependencyNeverSatisfied")
    lines = steppe("status", "--store", store.root).lines
    assert lines[-2].endswith(f"`steppe cancel {submission.name} --store '{store.root}'`")
    assert lines[-1].endswith(f"then `steppe retry RUN --store '{store.root}'`")
    monkeypatch.setenv("STEPPE_STORE", str(store.root))  # which the commands obey too
    assert steppe("status").lines[-1].endswith("`steppe cancel RUN`, then `steppe retry RUN`")


def test_runs_and_json_name_job_and_log(store: Store, queue: FakeQueue) -> None:
    a, b = runs(0, 1)
    submission = handed(store, [[a], [b]])
    batch = submission.batches[0]
    queue.has(batch, 0, "RUNNING")
    queue.has(batch, 1, "PENDING", "Resources")
    begin(store, b)
    with make_run(store, a).start():
        table = steppe("status", "--store", store.root, "--runs").lines
        plain = {run["run_id"]: run for run in steppe("status", "--store", store.root, "--json").json["runs"]}
        overview = steppe("status", "--store", store.root)
    assert table[0].split() == ["run", "state", "task", "optimizer", "seed", "epoch", "left", "job", "log"]
    assert table[1].split()[-2:] == ["100_0", str(batch.folder / "100_0_0_log.out")]
    assert "preempted x1" in table[2]
    wanted = {"submission": submission.name, "job": "100_1", "reason": "Resources", "attempts": 1, "node": ""}
    assert {key: plain[b.run_id][key] for key in wanted} == wanted
    assert plain[a.run_id]["node"] == "n1"
    assert overview.code == 0
    assert any(line.endswith("loading    n1 (100_0)") for line in overview.lines)
    assert "in the queue: 1 running, 1 pending (Resources)" in overview.lines


def test_a_store_without_a_cluster_has_no_such_columns(store: Store) -> None:
    finish(store, runs(0)[0])
    assert steppe("status", "--store", store.root, "--runs").lines[0].split()[-1] == "left"


def test_a_silent_scheduler_leaves_the_view_of_the_store(store: Store, queue: FakeQueue) -> None:
    done, waiting, begun = runs(0, 1, 2)
    handed(store, [[done, waiting, begun]])
    finish(store, done)
    begin(store, begun)
    queue.silent = True
    answer = steppe("status", "--store", store.root)
    assert answer.code == 0
    assert answer.lines[3:4] == ["3 runs: 1 done, 1 interrupted, 1 queued"]
    assert not any("steppe run" in line for line in answer.lines)
    assert answer.err.startswith("steppe: the state of the queue is unknown: SLURM does not answer")
    assert len(answer.err.splitlines()) == 1
    plain = steppe("status", "--store", store.root, "--json").json
    assert plain["scheduler_silent"].startswith("SLURM does not answer")


def test_a_scheduler_that_hangs_holds_status_up_for_a_moment_only(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = runs(0)
    handed(store, [[spec]])
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(scheduler, "GLANCE_S", 0.2)
    answer = steppe("status", "--store", store.root)
    assert answer.code == 0
    assert "1 run: 1 queued" in answer.lines
    assert "SLURM does not answer: `squeue` took over 0.2 s" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_who_needs_the_truth_waits_longer_for_it(
    store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.cli.status.follow", lambda watch, *_: watch.look())
    handed(store, [runs(0)]).batches[0].set_job("100")
    steppe("status", "--store", store.root)
    assert queue.asked == ["squeue", "sacct"]
    assert queue.waits[0] == scheduler.GLANCE_S >= queue.waits[1]
    for command in (("status", "--watch"), ("retry", "--dry-run"), ("cancel",)):
        queue.waits.clear()
        queue.silent = True
        steppe(*command, "--store", store.root)
        assert queue.waits[0] == scheduler.WAIT_S > scheduler.GLANCE_S


def test_what_is_left_is_shared_over_the_running_tasks(store: Store, queue: FakeQueue) -> None:
    specs = runs(*range(6))
    batch = handed(store, [specs[:3], specs[3:]]).batches[0]
    queue.has(batch, 0, "RUNNING")
    queue.has(batch, 1, "RUNNING")
    with make_run(store, specs[0]).start() as attempt:
        attempt.timing({"epoch": 1, "step": 6, "train_s": 1000.0, "evaluate_s": 0.0})
        attempt.metrics({"epoch": 1, "step": 6, "sample_gradients": 96})
        sight = Watch(store, QueuePoller(store.root)).look()
    # 1000 s of the first run, 2000 s of five: two tasks of two runs side by side
    assert sight.side_by_side == 4
    assert sight.left_s == pytest.approx(11_000 / 4, abs=60)


def test_status_loads_nothing_heavy(store: Store) -> None:
    handed(store, [runs(0)])
    code = (
        "import sys\nfrom slurm import client\nclient.ask = lambda *_, **__: ''\nfrom suite.cli import main\n"
        f"for name in ('status', 'cancel'): main([name, '--store', {str(store.root)!r}])\n"
        "print([name for name in ('torch', 'wandb', 'submitit', 'numpy') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "1 lost" in out
    assert out.splitlines()[-1] == "[]"


# -- --watch ------------------------------------------------------------------------------------------


Moves = list[Callable[[], object]]


class Play:
    """Time that passes only in sleeps, each of which plays a move."""

    def __init__(self, moves: Moves) -> None:
        self.now, self.moves = 0.0, moves

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.moves:
            self.moves.pop(0)()


class AtOnce(QueuePoller):
    """An asker whose thread is over before anybody looks."""

    def __call__(self) -> QueueState:
        super().__call__()
        if self._thread is not None:
            self._thread.join()
        return self._answer


def watch(store: Store, moves: Moves, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    played, out = Play(moves), io.StringIO()
    monkeypatch.setattr(monitor.time, "sleep", played.sleep)
    asker = AtOnce(store.root, every_s=10.0, ask=scheduler.look, clock=played)
    monitor.follow(Watch(store, asker), Screen(out), 2.0, lambda *words: " ".join(words), clock=played)
    assert not moves
    return out.getvalue().splitlines()


def nothing() -> None:
    pass


def test_watch_waits_for_the_queue_and_asks_every_ten_seconds(
    store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = runs(0)[0]
    batch = handed(store, [[spec]]).batches[0]
    queue.has(batch, 0, "PENDING", "Priority")
    held: list[Attempt] = []

    def end() -> None:
        held[0].publish(make_record(spec))
        held[0].close()

    moves: Moves = [*[nothing] * 60, lambda: held.append(make_run(store, spec).start()), nothing, end]
    lines = watch(store, moves, monkeypatch)
    assert lines[:2] == ["1 run: 1 queued", "in the queue: 1 pending (Priority)"]
    assert lines[-2:] == ["task sgd seed 0  done", "1 run: 1 done"]
    assert 12 <= len(queue.calls) <= 14  # in 126 s


def test_watch_ends_where_nothing_will_begin(
    store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = handed(store, [[spec] for spec in runs(0, 1)]).batches[0]
    queue.has(batch, 0, "CANCELLED")
    queue.has(batch, 1, "FAILED")
    assert watch(store, [], monkeypatch)[0] == "2 runs: 1 lost, 1 cancelled"


def test_watch_survives_a_silent_controller(
    store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = runs(0)[0]
    batch = handed(store, [[spec]]).batches[0]
    queue.has(batch, 0, "PENDING", "Priority")

    def silent(yes: bool) -> Callable[[], object]:
        return lambda: setattr(queue, "silent", yes)

    moves: Moves = [
        nothing,
        silent(True),
        *[nothing] * 50,
        silent(False),
        *[nothing] * 9,
        lambda: finish(store, spec),
    ]
    lines = watch(store, moves, monkeypatch)
    assert sum(line.startswith("SLURM does not answer") for line in lines) == 1
    assert "the scheduler answers again" in lines
    assert "1 run: 1 done" in lines
