"""Tasks of several processes on several nodes: their runs are shared, and lose nothing either."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from slurm import worker_rank
from slurm.executor import script
from slurm.profiles import Profile, checked
from slurm.submission import SubmissionConfig, create
from slurm.worker_rank import Step, serve
from suite.errors import SteppeError
from suite.store.folders import Store
from suite.workers import network
from suite.workers.network import Place
from suite.workers.pool import run_pool
from suite.workers.process import environment, worker_command
from tests.slurm.campaign import processes
from tests.slurm.fates import Fate, fate
from tests.slurm.sweeps import Sweep
from tests.slurm.test_executor import batch
from tests.suite.fake_records import make_spec
from tests.suite.ranked import free_port
from tests.suite.runner import PLUGIN, make_run, tiny_specs

TASK = "tiny[epochs=60]"
TWO_NODES = {"nodes": 2, "pack": 1, "max_running": 1}


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fate]:
    """The run in two processes of one machine, undisturbed."""
    folder = tmp_path_factory.mktemp("peace")
    spec = replace(tiny_specs(["sam"], [0], TASK)[0], ranks=2)
    make_run(folder, spec)
    result = run_pool(folder, [spec.run_id], workers=1, plugins=[PLUGIN], place=Place(2))
    assert not result.errors
    return {spec.run_id: fate(Store(folder).run(spec.run_id))}


@pytest.fixture
def shared(sweep: Sweep) -> Sweep:
    sweep.selectors = ("-t", TASK, "-o", "sam", "-s", "0", "--device", "cpu", "--checkpoint-s", "1")
    sweep.submit(**TWO_NODES)
    return sweep


def test_two_nodes_make_the_record_of_two_processes_here(shared: Sweep, peace: dict[str, Fate]) -> None:
    shared.wait_working()
    nodes = shared.testbed.ask("squeue", "-h", "--states=R", "-o", "%D")
    assert nodes.split() == ["2"]
    shared.wait_done(1)
    shared.check(peace)
    (record,) = Store(shared.store).index()
    assert record.spec.ranks == 2


def test_a_requeue_of_two_nodes_costs_nothing(shared: Sweep, peace: dict[str, Fate]) -> None:
    shared.wait_working()
    shared.testbed.ask(
        "scontrol", "requeue", shared.testbed.ask("squeue", "-h", "--array", "-o", "%i").strip()
    )
    shared.wait_done(1)
    shared.check(peace)


@pytest.mark.parametrize("which", ["rank 0", "rank 1"])
def test_a_killed_process_of_either_node_is_made_good_by_retry(
    shared: Sweep, peace: dict[str, Fate], which: str
) -> None:
    shared.wait_working()
    mains = {
        pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in processes("slurm.worker", shared.store)
    }
    rank = b"SLURM_PROCID=" + which[-1:].encode()
    (struck,) = [pid for pid, environment in mains.items() if rank in environment.split(b"\0")]
    children = Path(f"/proc/{struck}/task/{struck}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    shared.wait_idle()
    assert set(shared.states().values()) == {"error"}
    shared.steppe("retry")
    shared.wait_idle()
    shared.check(peace)


@pytest.mark.parametrize("ranks", ["1", "3"])
def test_ranks_of_the_profile_and_of_the_command_must_agree(sweep: Sweep, ranks: str) -> None:
    sweep.steppe("submit", *sweep.arguments("--ranks", ranks, **TWO_NODES), code=2)
    assert not sweep.store.exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpus": 4, "processes": 2}, "gpus = 4 for 2 processes a node; each takes one: valid: 0, 2"),
        ({"nodes": 2, "workers": 2}, "workers = 2, but the 2 processes of a task share one run at a time"),
        ({"nodes": 0}, "nodes = 0: Expected `int` >= 1"),
        ({"extra": {"ntasks-per-node": "2"}}, "extra.ntasks-per-node has a key of its own; use processes"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(SteppeError, match=said.replace(".", r"\.")):
        checked({"name": "wrong", **wrong}, "wrong")


def test_the_script_starts_a_process_a_rank_and_ends_with_the_first_that_fails(tmp_path: Path) -> None:
    profile = Profile(name="many", nodes=2, processes=4, gpus=4, cpus=8)
    assert (profile.ranks, profile.side_by_side) == (8, 1)
    text = script(batch(tmp_path), profile, 3, 1, None)
    wanted = ("--nodes=2", "--ntasks-per-node=4", "--gres=gpu:4", "--cpus-per-task=8")
    assert {f"#SBATCH {option}" for option in wanted} < set(text.splitlines())
    assert "srun" in text
    assert "--kill-on-bad-exit=1" in text


def test_a_process_knows_its_place_from_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    assert Step.current() == Step()
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(SteppeError, match="must be started by `srun`"):
        Step.current()
    there = {"JOB_ID": "26003", "PROCID": "3", "LOCALID": "1", "LAUNCH_NODE_IPADDR": "10.0.0.7"}
    for name, value in there.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert Step.current() == Step(3, 4, 1, "10.0.0.7", 10_000 + 26003 % 16_000)


def test_a_port_that_is_taken_is_said() -> None:
    step = Step(0, 2, 0, "127.0.0.1", free_port())
    with step.listen() as first:
        assert first is not None
        with pytest.raises(SteppeError, match=r"cannot listen at 127\.0\.0\.1:"):
            step.listen()


def test_who_finds_no_first_process_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker_rank, "ARRIVAL_S", 0.0)
    submission = create(tmp_path, SubmissionConfig("steppe submit", Profile("test")), [[("0" * 16,)]])
    assert (submission.folder / "key").stat().st_mode & 0o777 == 0o600
    step = Step(1, 2, 0, "127.0.0.1", free_port())
    assert serve(step, submission, lambda: True) == 0
    assert not capfd.readouterr().err
    assert serve(step, submission, lambda: False) == 1
    assert "rank 1: nobody answered at 127.0.0.1:" in capfd.readouterr().err


def test_a_worker_that_calls_serves_one_run_after_the_other(tmp_path: Path) -> None:
    specs = [replace(spec, ranks=2) for spec in tiny_specs(["sgd"], [0, 1])]
    for spec in specs:
        make_run(tmp_path, spec)
    with network.socket.create_server(("127.0.0.1", 0)) as listener:
        line = network.connect("127.0.0.1", listener.getsockname()[1], 1, "key")
        arguments = (
            line,
            worker_command([PLUGIN], None),
            environment(None, network.gloo_interface("127.0.0.1")),
        )
        work = threading.Thread(target=worker_rank._run_worker, args=arguments)
        work.start()
        place = Place(2, "127.0.0.1", listener, "key")
        result = run_pool(tmp_path, [s.run_id for s in specs], workers=1, plugins=[PLUGIN], place=place)
    work.join(60)
    assert (result.errors, len(result.done)) == ({}, 2)
    assert not work.is_alive()


def test_a_new_remote_worker_outlives_the_end_of_the_old_one_of_its_rank(tmp_path: Path) -> None:
    """One look at all lines may find the new one's call and the old one's end."""
    spec = replace(make_spec(0, "waits"), ranks=2)
    make_run(tmp_path, spec)
    lines: list[network.socket.socket] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            lines.append(connect())
        elif event["event"] == "progress" and len(lines) == 1:
            lines.append(connect())  # while the pool is in here, it looks at no line
            lines[0].close()
        elif event["event"] == "progress":
            cut.append(is_cut(lines[1]))

    def connect() -> network.socket.socket:
        return network.connect("127.0.0.1", listener.getsockname()[1], 1, "key")

    cut: list[bool] = []
    with network.socket.create_server(("127.0.0.1", 0)) as listener:
        result = run_pool(
            tmp_path, [spec.run_id], workers=1, entry="tests.suite.workers.fake_run:run_one",
            on_event=on_event, stop_requests=lambda: len(cut) > 20,
            place=Place(2, listener=listener, key="key"),
        )  # fmt: skip
    with lines[1]:
        assert result.interrupted == [spec.run_id]
        assert not any(cut)


def is_cut(line: network.socket.socket) -> bool:
    """Whether the other end of a line is closed."""
    try:
        return line.recv(1, network.socket.MSG_PEEK | network.socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def test_a_worker_that_does_not_notice_that_its_line_is_cut_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_rank, "PATIENCE_S", 0.2)
    ours, theirs = network.socket.socketpair()
    stuck = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
    work = threading.Thread(target=worker_rank._run_worker, args=(ours, stuck, dict(os.environ)))
    work.start()
    assert theirs.recv(10)
    theirs.close()
    work.join(60)
    assert not work.is_alive()


def test_gloo_takes_the_network_of_the_first_process() -> None:
    assert network.gloo_interface("127.0.0.1") == {"GLOO_SOCKET_IFNAME": "lo"}
    assert network.gloo_interface("nowhere.invalid") == {}


def test_calls_that_say_nothing_sensible_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_HELLO_S", 0.2)
    with network.socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for said in (b"GET / HTTP/1.1\n", b"", b"1\n", b"kex 1\n", b"key -1\n"):
            with network.socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(said)
                assert network.accept(listener, "key") is None
        with network.connect("127.0.0.1", port, 3, "key"):
            accepted = network.accept(listener, "key")
            assert accepted is not None
            assert accepted[1] == 3
            accepted[0].close()
