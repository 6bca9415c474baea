"""What is in wandb's offline files, read back: whole runs, whatever was killed on the way."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from suite.spec import EntryRef, RunSpec
from suite.store.folders import Store
from suite.track import reader
from suite.track.content import Labels
from suite.track.mirror_folder import MirrorFolder
from suite.track.wandb_process import Command
from tests.suite.fake_records import make_run, make_spec
from tests.suite.runner import killed, tiny_specs, train
from tests.suite.runner import make_run as make_tiny_run
from tests.suite.track import offline
from tests.suite.track.conftest import (
    OFFLINE,
    mirror_all,
    offline_run,
    supervised,
    turn_until,
    wait_for,
    wandb_cores,
)
from tests.suite.track.fake_run import MEASURED_EVERY, N_ROWS, done, write_rows


def test_a_finished_run_is_whole(tmp_path: Path) -> None:
    store, spec = Store(tmp_path / "store"), make_spec()
    done(store, spec)
    supervisor = mirror_all(store, OFFLINE, spec.run_id)
    assert supervisor.done == {spec.run_id}
    found = offline_run(store, spec.run_id)
    assert [row["step"] for row in found.rows] == [10 * epoch for epoch in range(1, N_ROWS + 1)]
    assert [row["_step"] for row in found.rows] == [row["step"] for row in found.rows]
    last = found.rows[-1]
    assert (last["train/loss"], last["validation/loss"], last["lr"]) == (
        1 / N_ROWS,
        1.5 / N_ROWS,
        0.1 / N_ROWS,
    )
    assert (last["sample_gradients"], last["seconds/train"]) == (160 * N_ROWS, 2.0 * N_ROWS)
    assert {key: value for key, value in found.config.items() if key != "_wandb"} == spec.to_dict()
    assert found.summary["test/accuracy"] == 0.5
    assert found.summary["test/accuracy_se"] == pytest.approx(0.05)  # 100 examples
    measured = [{key: value for key, value in row.items() if "sharpness/" in key} for row in found.rows]
    assert [bool(row) for row in measured] == [epoch % MEASURED_EVERY == 0 for epoch in range(1, N_ROWS + 1)]
    assert measured[3] == {
        "sharpness/lambda_max": 5.0,
        "sharpness/lambda_max_se_probes": 0.1,
        "sharpness/lambda_max_se_examples": 0.2,
        "sharpness/train_loss": 0.6,
    }
    assert found.summary["sharpness/lambda_max"] == 2.5
    assert found.summary["sharpness/lambda_max_se_examples"] == 0.2
    assert found.summary["cost/sample_gradients"] == 180
    assert found.run["id"] == spec.run_id
    assert found.run["group"] == "task"
    assert found.run["job_type"] == "sgd[lr=0.1]"
    assert set(found.run["tags"]) == {"fp32", "cpu", "digits", spec.protocol}
    assert found.exit_code == 0


def test_nothing_of_the_machine_is_told(tmp_path: Path) -> None:
    store, spec = Store(tmp_path / "store"), make_spec()
    done(store, spec)
    mirror_all(store, OFFLINE, spec.run_id)
    (segment,) = MirrorFolder(store.root, spec.run_id).segments()
    raw = b"".join(
        path.read_bytes() for path in [*segment.glob("*.wandb"), *(segment / "files").rglob("*.*")]
    )
    # As a word, or as a string of the protocol after its length: a random id may hold a short name's letters.
    host = re.escape(socket.gethostname().encode())
    assert not re.search(rb"(?<![A-Za-z0-9])" + host + rb"(?![A-Za-z0-9])", raw)
    assert bytes([len(socket.gethostname())]) + socket.gethostname().encode() not in raw
    assert str(tmp_path).encode() not in raw
    assert str(Path(reader.__file__).parents[2]).encode() not in raw


HOSTILE = '<script>alert("x")</script> ✨\n\x1b[31m' + "long" * 100


def test_hostile_names_are_taken(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ref = EntryRef("strange", "1", {"text": HOSTILE, "lr": 0.1})
    spec = RunSpec(task=ref, optimizer=ref, seed=3, data=HOSTILE, data_checksum="c" * 64, epochs=2.0)
    done(store, spec)
    with supervised(store, OFFLINE) as supervisor:
        supervisor.take(Command(spec.run_id, Labels(HOSTILE, HOSTILE + "2", "smoke")))
        supervisor.close()
        turn_until(supervisor, lambda: not supervisor.left)
        assert supervisor.done == {spec.run_id}
    found = offline_run(store, spec.run_id)
    assert found.config["optimizer"]["params"]["text"] == HOSTILE
    assert all(0 < len(tag) <= 64 for tag in found.run["tags"])
    shown = [found.run["group"], found.run["job_type"], found.run["name"]]
    assert all(len(name) <= 128 and name.isprintable() and name.startswith("<script>") for name in shown)
    assert len(set(shown)) == 3  # what was cut off keeps them apart


def test_a_run_that_was_killed_and_resumed_is_one_whole_run(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), tiny_specs(["sgd"], [0])[0]
    folder = make_tiny_run(tmp_path, spec)
    assert killed(tmp_path, spec.run_id, die_at=15, checkpoint_s=0.0) == -signal.SIGKILL
    mirror_all(store, OFFLINE, spec.run_id)
    before = offline_run(store, spec.run_id)
    assert 1 <= len(before.rows) < 4
    assert (before.summary["status"], before.exit_code) == ("interrupted", 1)
    train(tmp_path, spec.run_id)
    mirror_all(store, OFFLINE, spec.run_id)
    after = offline_run(store, spec.run_id)
    assert [row["_step"] for row in after.rows] == [row["step"] for row in folder.metrics()]
    assert [row["train/loss"] for row in after.rows] == [row["train_loss"] for row in folder.metrics()]
    assert len(after.rows) == 4
    assert all("seconds/train" in row for row in after.rows)  # the first ones were measured by attempt 1
    assert (after.summary["status"], after.exit_code) == ("completed", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_wandbs_own_process_may_be_killed(tmp_path: Path, number: signal.Signals) -> None:
    store, spec = Store(tmp_path), make_spec()
    n_rows = 4000  # long enough to be struck in the middle
    done(store, spec, n_rows)
    mirror = MirrorFolder(tmp_path, spec.run_id)
    with supervised(store, OFFLINE) as supervisor:
        supervisor.take(Command(spec.run_id))
        supervisor.close()
        turn_until(
            supervisor, lambda: any(f.stat().st_size for s in mirror.segments() for f in s.glob("*.wandb"))
        )
        (core,) = wandb_cores(tmp_path)
        os.kill(core, number)
        assert not mirror.markers()
        turn_until(supervisor, lambda: not supervisor.left)
        assert supervisor.problem  # it did strike
        assert supervisor.done == {spec.run_id}
    found = offline_run(store, spec.run_id)
    assert [row["step"] for row in found.rows] == [10 * epoch for epoch in range(1, n_rows + 1)]
    assert found.summary["test/accuracy"] == 0.5
    wait_for(lambda: not wandb_cores(tmp_path), "nothing is left of wandb")


def test_two_mirrors_never_write_one_run(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec()
    done(store, spec)
    mirror = MirrorFolder(tmp_path, spec.run_id)
    with supervised(store, OFFLINE) as supervisor:
        supervisor.take(Command(spec.run_id))
        supervisor.close()
        with mirror.lock():
            turn_until(supervisor, lambda: supervisor._jobs[spec.run_id].due > time.monotonic())  # once more
            assert not mirror.segments()
        turn_until(supervisor, lambda: not supervisor.left)
        assert supervisor.done == {spec.run_id}


def test_a_run_with_nothing_to_show_is_passed_over(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec()
    make_run(store, spec)
    supervisor = mirror_all(store, OFFLINE, spec.run_id)
    assert (supervisor.done, supervisor.lost, supervisor.problem) == (set(), set(), "")
    assert not MirrorFolder(tmp_path, spec.run_id).segments()


def test_a_damaged_run_does_not_hold_up_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path)
    specs = [make_spec(seed) for seed in range(3)]
    damaged, *sound = [done(store, spec) for spec in specs]
    (damaged.path / "spec.json").write_text("{")
    supervisor = mirror_all(store, OFFLINE, *(spec.run_id for spec in specs))
    assert supervisor.lost == {damaged.run_id}
    assert "spec.json is half-written" in supervisor.problem
    assert supervisor.done == {folder.run_id for folder in sound}


def test_many_runs_share_a_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run_ids = {done(store, make_spec(seed)).run_id for seed in range(5)}
    pids = set()
    with supervised(store, OFFLINE) as supervisor:
        for run_id in run_ids:
            supervisor.take(Command(run_id))
        supervisor.close()
        while supervisor.left:
            supervisor.turn(0.02)
            pids |= {supervisor._mirror.pid} if supervisor._mirror else set()
        assert supervisor.done == run_ids
    assert len(pids) == 1
    assert all(len(offline_run(store, run_id).rows) == N_ROWS for run_id in run_ids)


def test_the_reader_stops_where_a_file_is_torn(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec()
    folder = make_run(store, spec)
    with folder.start() as attempt:
        write_rows(attempt, 1, 200)
    mirror_all(store, OFFLINE, spec.run_id)
    (file,) = MirrorFolder(tmp_path, spec.run_id).segments()[0].glob("*.wandb")
    data = file.read_bytes()
    assert len(data) > 2 * 32768  # records over the edges of blocks
    assert len(offline.read(file).rows) == 200
    file.write_bytes(data[: len(data) // 2])
    torn = offline.read(file)
    assert 50 < len(torn.rows) < 150
    assert torn.exit_code is None
    assert not reader.is_whole(file, [row["step"] for row in torn.rows])
