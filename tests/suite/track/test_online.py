"""Live curves and whole runs on a server: a stub on loopback, which stands in for W&B."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from suite.store.folders import Store
from suite.track.content import Labels
from suite.track.mirror_folder import MirrorFolder
from suite.track.mode import choose
from suite.track.wandb_process import Command
from tests.suite.fake_records import make_run, make_spec
from tests.suite.track.conftest import (
    OFFLINE,
    mirror_all,
    online,
    supervised,
    turn_until,
    wait_for,
    wandb_cores,
)
from tests.suite.track.fake_run import N_ROWS, done, record_of, write_rows
from tests.suite.track.stub import Stub

STEPS = [10 * epoch for epoch in range(1, N_ROWS + 1)]
LABELS = Labels("a task", "an optimizer", "smoke")


def test_curves_are_live_and_the_rest_comes_at_the_end(tmp_path: Path, stub: Stub) -> None:
    store, spec = Store(tmp_path), make_spec()
    folder = make_run(store, spec)
    with supervised(store, online(stub)) as supervisor:
        supervisor.take(Command(spec.run_id, LABELS, ended=False))
        with folder.start() as attempt:
            write_rows(attempt, 1, 3)
            turn_until(supervisor, lambda: len(stub.runs[spec.run_id].history) == 3)
            assert stub.runs[spec.run_id].exit_code is None
            write_rows(attempt, 4, N_ROWS)
            attempt.publish(record_of(spec))
        supervisor.take(Command(spec.run_id, LABELS))
        supervisor.close()
        turn_until(supervisor, lambda: not supervisor.left)
        assert supervisor.done == {spec.run_id}
    run = stub.runs[spec.run_id]
    assert [row["step"] for row in run.rows] == STEPS
    assert run.rows[-1]["seconds/train"] == 2.0 * N_ROWS
    config = spec.to_dict()
    del config["task"]["params"]  # what is empty wandb leaves out
    assert run.config == config
    assert (run.fields["groupName"], run.fields["jobType"]) == ("a task", "an optimizer")
    assert run.fields["displayName"] == "an optimizer seed 0"
    assert run.fields["project"] == "steppe"
    assert "smoke" in run.fields["tags"]
    assert not run.fields.get("host")
    assert run.summary["sharpness/lambda_max_se_probes"] == 0.1
    assert run.exit_code == 0
    assert not stub.unknown
    assert not MirrorFolder(tmp_path, spec.run_id).segments()  # it is on the server, whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_wandbs_own_process_may_be_killed_while_a_run_is_followed(
    tmp_path: Path, stub: Stub, number: signal.Signals
) -> None:
    store, spec = Store(tmp_path), make_spec()
    folder = make_run(store, spec)
    with supervised(store, online(stub)) as supervisor:
        supervisor.take(Command(spec.run_id, LABELS, ended=False))
        with folder.start() as attempt:
            write_rows(attempt, 1, 3)
            turn_until(supervisor, lambda: stub.runs[spec.run_id].starts)
            (core,) = wandb_cores(tmp_path)
            os.kill(core, number)
            write_rows(attempt, 4, N_ROWS)
            attempt.publish(record_of(spec))
        supervisor.take(Command(spec.run_id, LABELS))
        turn_until(supervisor, lambda: not supervisor.left)
        assert supervisor.problem
        assert supervisor.done == {spec.run_id}
    run = stub.runs[spec.run_id]
    assert [row["step"] for row in run.rows] == STEPS  # the server drops what it has
    assert run.summary["test/accuracy"] == 0.5
    assert run.exit_code == 0


def test_an_interrupted_run_goes_on_where_the_server_has_it(tmp_path: Path, stub: Stub) -> None:
    store, spec = Store(tmp_path), make_spec()
    folder = make_run(store, spec)
    with folder.start() as attempt:
        write_rows(attempt, 1, 5)
    mirror_all(store, online(stub), spec.run_id)
    assert stub.runs[spec.run_id].exit_code == 1
    with folder.start() as attempt:  # goes on from a checkpoint after the third epoch
        write_rows(attempt, 1, N_ROWS)
        attempt.publish(record_of(spec))
    mirror_all(store, online(stub), spec.run_id)
    run = stub.runs[spec.run_id]
    assert [row["step"] for row in run.rows] == STEPS
    assert (run.summary["status"], run.exit_code) == ("completed", 0)


def test_a_run_that_is_followed_is_ended_although_nothing_new_came(tmp_path: Path, stub: Stub) -> None:
    store, spec = Store(tmp_path), make_spec()
    folder = make_run(store, spec)
    with folder.start() as attempt:
        write_rows(attempt, 1, 5)
    mirror_all(store, online(stub), spec.run_id)
    run = stub.runs[spec.run_id]
    starts, run.exit_code = run.starts, None
    with supervised(store, online(stub)) as supervisor:
        with folder.start():  # it is stopped while it loads
            supervisor.take(Command(spec.run_id, LABELS, ended=False))
            turn_until(supervisor, lambda: run.starts > starts)
        supervisor.take(Command(spec.run_id, LABELS))
        supervisor.close()
        turn_until(supervisor, lambda: not supervisor.left)
    assert run.summary["status"] == "interrupted"
    assert stub.runs[spec.run_id].exit_code == 1
    assert [row["step"] for row in run.rows] == STEPS[:5]


def test_targets_do_not_forget_each_other(tmp_path: Path, stub: Stub) -> None:
    store, spec = Store(tmp_path), make_spec()
    done(store, spec)
    one, other = online(stub), replace(online(stub), project="other")
    for target in (one, other, OFFLINE):
        mirror_all(store, target, spec.run_id)
    asked = len(stub.operations)
    for target in (one, other, OFFLINE):
        assert mirror_all(store, target, spec.run_id).done == {spec.run_id}
    assert len(stub.operations) == asked
    assert len(MirrorFolder(tmp_path, spec.run_id).segments()) == 1


def test_a_password_in_the_servers_address_is_shown_nowhere(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = stub.url.replace("//", "//user:se-cret@")
    monkeypatch.setenv("WANDB_BASE_URL", address)
    target = choose(None)
    assert target == online(stub)
    assert target.environment()["WANDB_BASE_URL"] == address
    store, spec = Store(tmp_path), make_spec()
    done(store, spec)
    stub.mode = "refuses"
    assert "cret" not in mirror_all(store, target, spec.run_id).problem
    stub.mode = "fine"
    assert mirror_all(store, target, spec.run_id).done == {spec.run_id}
    kept = [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    assert len(kept) >= 3  # marker, lock and log
    assert not [path for path in kept if b"cret" in path.read_bytes()]


def test_offline_files_go_once_the_run_is_online(tmp_path: Path, stub: Stub) -> None:
    store, spec = Store(tmp_path), make_spec()
    done(store, spec)
    mirror_all(store, OFFLINE, spec.run_id)
    assert MirrorFolder(tmp_path, spec.run_id).segments()
    mirror_all(store, online(stub), spec.run_id)
    assert not MirrorFolder(tmp_path, spec.run_id).segments()
    assert [row["step"] for row in stub.runs[spec.run_id].rows] == STEPS


def test_a_refused_key_is_said_once_and_nothing_is_tried_again(tmp_path: Path, stub: Stub) -> None:
    stub.mode = "refuses"
    store = Store(tmp_path)
    specs = [make_spec(seed) for seed in range(2)]
    for spec in specs:
        done(store, spec)
    supervisor = mirror_all(store, online(stub), *(spec.run_id for spec in specs))
    assert supervisor.problem == f"key refused by {stub.url}"
    assert supervisor.lost == {spec.run_id for spec in specs}
    assert not MirrorFolder(tmp_path, specs[0].run_id).markers()
    stub.mode = "fine"
    assert mirror_all(store, online(stub), specs[0].run_id).done == {specs[0].run_id}


def test_a_server_out_of_order_is_said_and_tried_again(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.track.sidecar.SILENCE_S", 5.0)
    monkeypatch.setattr("suite.track.sidecar._BACK_OFF_S", 0.01)
    stub.mode = "fails"
    store, spec = Store(tmp_path), make_spec()
    done(store, spec)
    with supervised(store, online(stub)) as supervisor:
        supervisor.take(Command(spec.run_id))
        turn_until(supervisor, lambda: supervisor.problem)
        stub.mode = "fine"
        turn_until(supervisor, lambda: not supervisor.left)
        assert supervisor.done == {spec.run_id}
    assert [row["step"] for row in stub.runs[spec.run_id].rows] == STEPS


def test_a_mirror_that_hangs_is_killed(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suite.track.sidecar.SILENCE_S", 3.0)
    monkeypatch.setattr("suite.track.sidecar._BACK_OFF_S", 0.01)
    stub.mode = "hangs"
    store, spec = Store(tmp_path), make_spec()
    done(store, spec)
    supervisor = mirror_all(store, online(stub), spec.run_id)
    assert supervisor.lost == {spec.run_id}
    assert supervisor.problem.startswith("nothing heard of W&B")
    wait_for(lambda: not wandb_cores(tmp_path), "nothing is left of wandb")
