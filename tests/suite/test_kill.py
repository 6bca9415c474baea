"""A store stays whole under SIGKILL at any moment: one process after the other works and is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from suite.claim import attempt_numbers
from suite.store import RunDone, Store
from tests.suite.records import make_record, make_run, make_spec

STEPS = 16
RUNS = 3


def work(root: Path) -> None:
    """Bring every run to its record: a metric each step, a checkpoint each second one."""
    store = Store(root)
    for seed in range(RUNS):
        spec = make_spec(seed=seed)
        folder = make_run(store, spec)
        try:
            attempt = folder.start()
        except RunDone:
            continue
        with attempt:
            state = attempt.resume() or {"step": 0}
            for step in range(state["step"], STEPS):
                attempt.metrics({"step": step})
                if step % 2:
                    attempt.checkpoint({"step": step + 1, "payload": list(range(500))})
            attempt.publish(make_record(spec, steps=STEPS))


def check(root: Path) -> int:
    """Everything that can be read is whole; returns the number of records."""
    store = Store(root)
    records = store.index()
    assert records.skipped == ()
    for run_id in store.run_ids():
        folder = store.run(run_id)
        assert folder.status() in ("done", "interrupted", "queued")
        assert (folder.result() is not None) == (folder.status() == "done")
        steps = [row["step"] for row in folder.metrics()]
        assert steps == list(range(len(steps)))
        if folder.status() == "done":
            assert steps == list(range(STEPS))
    assert len(records) == sum(store.run(run_id).status() == "done" for run_id in store.run_ids())
    return len(records)


def launch(root: Path) -> None:
    """Fork workers that need not import torch; for each line of stdin, kill one after so many seconds."""
    import suite.checkpoint  # noqa: F401 - loads torch before the forks

    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(root)
            os._exit(0)
        time.sleep(float(line))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    chance, store = random.Random(0), Store(tmp_path)
    code = (
        f"import pathlib; from tests.suite.test_kill import launch; launch(pathlib.Path({str(tmp_path)!r}))"
    )
    finished = kills = 0
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "ready\n"
        while finished < RUNS:
            launcher.stdin.write(f"{chance.uniform(0.0, 0.3)}\n")
            launcher.stdin.flush()
            assert launcher.stdout.readline() == "killed\n"
            kills += 1
            before, finished = finished, check(tmp_path)
            assert finished >= before
            assert kills < 500  # each stands for progress of a step or so, or for none
    attempts = [folder.attempt_path() for folder in map(store.run, store.run_ids())]
    assert len({(path / "metrics.jsonl").read_bytes() for path in attempts if path}) == 1
    assert sum(len(attempt_numbers(store.run(run_id).path)) for run_id in store.run_ids()) > RUNS
