"""The pool runs everything that can run, whatever one run does, and stops in an orderly way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from suite.files import StorageError
from suite.store.folders import RunFolder, Store
from suite.workers.event_loop import PoolResult
from suite.workers.pool import run_pool
from suite.workers.process import visible_gpus
from tests.suite.fake_records import make_run, make_spec

ENTRY = "tests.suite.workers.fake_run:run_one"


def specs(store: Store, *kinds: str) -> dict[str, str]:
    """A run of each kind, in order: run id -> kind."""
    runs = {(spec := make_spec(seed, kind)).run_id: (kind, spec) for seed, kind in enumerate(kinds)}
    for _, spec in runs.values():
        make_run(store, spec)
    return {run_id: kind for run_id, (kind, _) in runs.items()}


def run(
    store: Store, runs: dict[str, str], workers: int, **options: Any
) -> tuple[PoolResult, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    result = run_pool(store.root, list(runs), workers=workers, on_event=events.append, entry=ENTRY, **options)
    return result, events


def pids(store: Store, runs: dict[str, str]) -> set[int]:
    return {
        event["pid"] for run_id in runs for event in store.run(run_id).events() if event["event"] == "worker"
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_outlive_their_runs(tmp_path: Path, workers: int) -> None:
    store = Store(tmp_path)
    runs = specs(store, *["fine"] * 6)
    result, events = run(store, runs, workers, data_root=tmp_path / "data", checkpoint_s=7.0)
    assert sorted(result.done) == sorted(runs)
    assert (result.failed, result.interrupted, result.errors) == ([], [], {})
    assert len(store.index()) == 6
    assert 1 <= len(pids(store, runs)) <= workers
    for run_id in runs:
        kinds = [event["event"] for event in events if event["run_id"] == run_id]
        assert kinds == ["started", *["progress"] * 10, "ended"]
        told = {k: v for event in store.run(run_id).events() for k, v in event.items()}
        assert (told["threads"], told["data"]) == ("1", str(tmp_path / "data"))
        assert told["checkpoint_s"] == 7.0
    assert not list((tmp_path / "logs").iterdir())  # nothing was said, so nothing is kept


@pytest.mark.parametrize("workers", [1, 2])
def test_one_run_that_fails_does_not_stop_the_others(tmp_path: Path, workers: int) -> None:
    store = Store(tmp_path)
    kinds = ["fine", "raises", "fine", "crashes", "diverges", "mistaken", "exits", "fine"]
    runs = specs(store, *kinds)
    result, events = run(store, runs, workers)
    by_kind: dict[str, list[str]] = {kind: [r for r, k in runs.items() if k == kind] for kind in kinds}
    assert sorted(result.done) == sorted(by_kind["fine"])
    assert result.failed == by_kind["diverges"]
    assert result.interrupted == []
    (raises,), (crashes,), (exits,) = by_kind["raises"], by_kind["crashes"], by_kind["exits"]
    assert result.errors.keys() == {raises, crashes, exits, *by_kind["mistaken"]}
    log = tmp_path / "logs" / f"{raises}.log"
    assert result.errors[raises] == f"ValueError: the first line (log: {log})"
    assert "Traceback" in log.read_text()
    assert result.errors[exits].startswith("SystemExit: 3")
    assert result.errors[by_kind["mistaken"][0]] == "rho=-1 is out of range"
    assert result.errors[crashes].startswith("its worker process was killed by SIGSEGV")
    assert "Segmentation fault" in (tmp_path / "logs" / f"{crashes}.log").read_text()
    assert len(store.index()) == 4  # a defect of the code leaves no record
    ended = [event["run_id"] for event in events if event["event"] == "ended"]
    assert sorted(ended) == sorted(runs)
    again, _ = run(store, dict.fromkeys([raises, crashes], ""), 1)  # nothing of them holds the runs
    assert again.errors.keys() == {raises, crashes}


def test_what_a_library_prints_goes_to_the_log(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "prints", "fine")
    result, _ = run(store, runs, 1)
    assert len(result.done) == 2
    (log,) = (tmp_path / "logs").iterdir()
    assert "library talk" in log.read_text()
    assert "from below Python" in log.read_text()


def test_a_run_with_a_damaged_spec_or_at_work_elsewhere_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "fine", "fine", "fine")
    damaged, busy, fine = runs
    (store.run(damaged).path / "spec.json").write_text("{")
    with store.run(busy).start():
        result, _ = run(store, runs, 2)
    assert result.done == [fine]
    assert "spec.json is half-written" in result.errors[damaged]
    assert "is being worked on by process" in result.errors[busy]


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "fine")
    plugin = tmp_path / "broken.py"
    plugin.write_text("raise RuntimeError('no')")
    result = run_pool(store.root, list(runs), workers=1, entry="nowhere.at_all:run_one")
    assert result.errors[next(iter(runs))].startswith("ModuleNotFoundError: No module named 'nowhere'")


def test_gpus_are_dealt_out_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-abc")
    assert visible_gpus() == ["3", "GPU-abc"]
    store = Store(tmp_path)
    runs = specs(store, *["crashes"] * 3)  # a crash each, so that every run has a worker of its own
    run(store, runs, 3)
    seen = [event["gpu"] for r in runs for event in store.run(r).events() if event["event"] == "where"]
    assert seen == ["3", "GPU-abc", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


MAIN = """
import json, sys
from pathlib import Path
from suite.workers.pool import run_pool
def tell(event):
    print(json.dumps(event), flush=True)
result = run_pool(Path(sys.argv[1]), sys.argv[2:], workers=2, on_event=tell, entry={entry!r})
print(json.dumps(vars(result)), flush=True)
"""


def start_pool(store: Store, runs: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN.format(entry=ENTRY), str(store.root), *runs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def read_until(pool: subprocess.Popen[str], runs: set[str], kind: str) -> None:
    """Read events until each of the runs had one of that kind."""
    assert pool.stdout is not None
    while runs:
        event = json.loads(pool.stdout.readline())
        if event["event"] == kind:
            runs.discard(event["run_id"])


def rest(pool: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = pool.communicate(timeout=60)
    return json.loads(out.splitlines()[-1])


def test_ctrl_c_saves_everything_and_the_same_runs_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "waits", "waits", "fine")
    first, second, queued = runs
    pool = start_pool(store, runs)
    read_until(pool, {first, second}, "progress")
    os.killpg(pool.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    result = rest(pool)
    assert pool.returncode == 0
    assert sorted(result["interrupted"]) == sorted(runs)
    assert (result["done"], result["errors"]) == ([], {})
    assert store.run(queued).status() == "queued"
    for run_id in (first, second):
        folder = store.run(run_id)
        assert folder.status() == "interrupted"
        assert [e["event"] for e in folder.events()][-1] == "stopped"
        assert folder.attempt_path() is not None
        folder.start().close()  # nobody holds it


def test_ctrl_c_twice_kills(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "stubborn", "fine", "fine")
    stubborn = next(iter(runs))
    pool = start_pool(store, runs)
    read_until(pool, set(list(runs)[1:]), "ended")
    while store.run(stubborn).status() != "running":  # its worker may still be loading
        time.sleep(0.02)
    pool.send_signal(signal.SIGINT)
    read_until_stopping(pool)
    assert pool.poll() is None
    pool.send_signal(signal.SIGINT)
    result = rest(pool)
    assert result["interrupted"] == [stubborn]
    assert len(result["done"]) == 2
    assert store.run(stubborn).status() == "interrupted"


def read_until_stopping(pool: subprocess.Popen[str]) -> None:
    assert pool.stdout is not None
    while json.loads(pool.stdout.readline())["event"] != "stopping":
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_schedulers_signals_save_however_often_they_come(tmp_path: Path, number: signal.Signals) -> None:
    store = Store(tmp_path)
    runs = specs(store, "waits", "waits", "fine")
    first, second, queued = runs
    pool = start_pool(store, runs)
    read_until(pool, {first, second}, "progress")
    for _ in range(3):
        os.killpg(pool.pid, number)  # schedulers signal every process of a job
    result = rest(pool)
    assert sorted(result["interrupted"]) == sorted(runs)
    assert result["errors"] == {}
    assert store.run(queued).status() == "queued"
    for run_id in (first, second):
        assert store.run(run_id).status() == "interrupted"
        assert [e["event"] for e in store.run(run_id).events()][-1] == "stopped"


def test_a_worker_that_is_stopped_from_outside_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "waits", "fine")
    stopped, other = runs

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["run_id"] == stopped:
            (pid,) = pids(store, {stopped: ""})
            os.kill(pid, signal.SIGTERM)

    result = run_pool(store.root, list(runs), workers=1, on_event=stop, entry=ENTRY)
    assert (result.interrupted, result.done, result.errors) == ([stopped], [other], {})
    assert store.run(stopped).status() == "interrupted"


def test_a_run_that_was_overtaken_is_left_to_the_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "overtaken", "fine")
    overtaken, fine = runs
    result, _ = run(store, runs, 1)
    assert (result.errors, result.done) == ({overtaken: "taken over by another process"}, [fine])
    assert store.run(overtaken).error() is None


def test_why_there_is_no_record_is_written_down(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "raises", "mistaken", "killed", "refused")
    raises, mistaken, killed, refused = map(store.run, runs)
    (refused.path / "refusals").write_text("9")
    run(store, runs, 2, job="7_1", restart_count=3)
    folders = [raises, mistaken, killed, refused]
    errors = [folder.error() for folder in folders]
    assert [folder.status() for folder in folders] == ["error"] * 4
    assert [(t.outcome, t.job, t.attempt) for t in errors if t] == [
        (outcome, "7_1", 1) for outcome in ("error", "mistake", "error", "storage")
    ]
    messages = [t.message for t in errors if t]
    assert messages[:3] == [
        "ValueError: the first line",
        "rho=-1 is out of range",
        "its worker process was killed by SIGKILL; out of memory?",
    ]
    assert messages[3].startswith("no space left to write ")
    start = next(raises.events())
    assert (start["job"], start["restart_count"]) == ("7_1", 3)


def test_a_disk_that_refuses_the_reason_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: RunFolder, *_: str) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(RunFolder, "record_error", refuse)
    store = Store(tmp_path)
    runs = specs(store, "raises", "fine")
    result, _ = run(store, runs, 1)
    assert (len(result.errors), len(result.done)) == (1, 1)


def test_workers_stop_when_their_parent_is_killed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = specs(store, "waits")
    (run_id,) = runs
    pool = start_pool(store, runs)
    read_until(pool, {run_id}, "progress")
    pool.kill()
    pool.wait()
    assert pool.stdout is not None
    pool.stdout.close()
    for _ in range(500):
        if [e["event"] for e in store.run(run_id).events()][-1] == "stopped":
            break
        time.sleep(0.02)
    else:
        pytest.fail("the worker went on for 10 s without its parent")
