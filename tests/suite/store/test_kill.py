"""A store stays whole under SIGKILL: before every single file operation, and at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from suite.store.folders import RunDone, Store
from tests.suite.fake_records import make_record, make_run, make_spec

STEPS = 4
OPERATIONS = ("open", "write", "fsync", "ftruncate", "replace", "rename", "link", "mkdir", "unlink", "utime")


def work(root: Path, runs: int) -> None:
    """Bring every run to its record: a metric each step, a checkpoint each second one."""
    store = Store(root)
    for seed in range(runs):
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
            attempt.publish(make_record(spec))


def check(root: Path) -> int:
    """Everything that can be read is whole; returns the number of records."""
    store = Store(root)
    records = store.index()
    assert records.skipped == ()
    states = {run_id: store.run(run_id).status() for run_id in store.run_ids()}
    for run_id, state in states.items():
        folder = store.run(run_id)
        assert state in ("done", "interrupted", "queued")
        if (folder.path / "spec.json").exists():
            assert folder.spec().run_id == run_id
        steps = [row["step"] for row in folder.metrics()]
        assert steps == list(range(STEPS if state == "done" else len(steps)))
    done = [run_id for run_id, state in states.items() if state == "done"]
    assert [record.run_id for record in records] == done
    return len(records)


def kill_before(operation: int) -> None:
    """Make this process kill itself before its operation-th file operation; half a write is still made."""
    left = operation

    def deadly(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                if name == "write":
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return call

    for name in OPERATIONS:
        setattr(os, name, deadly(name, getattr(os, name)))


def launch(root: Path) -> None:
    """Fork workers, which need not import torch again, as the lines of stdin say; answer with their fate.

    A line is: folder, number of runs, and "operation N" or "seconds X" for when to kill.
    """
    import suite.store.checkpoint  # noqa: F401 - loads torch before the forks

    for line in sys.stdin:
        folder, runs, kind, moment = line.split()
        child = os.fork()
        if child == 0:
            try:
                if kind == "operation":
                    kill_before(int(moment))
                work(root / folder, int(runs))
            finally:
                os._exit(0)
        if kind == "seconds":
            time.sleep(float(moment))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(-status if os.WIFSIGNALED(status) else 0, flush=True)


@contextmanager
def launcher(root: Path) -> Iterator[Callable[[str], bool]]:
    """A function that runs a worker as the line says and tells whether the kill struck."""
    code = f"import pathlib; from {__name__} import launch; launch(pathlib.Path({str(root)!r}))"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:

        def run(line: str) -> bool:
            stdin, stdout = _streams(process)
            stdin.write(line + "\n")
            stdin.flush()
            return stdout.readline() == "-9\n"

        yield run


def _streams(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def metrics_of(root: Path) -> bytes:
    (run_id,) = Store(root).run_ids()
    attempt = Store(root).run(run_id).attempt_path()
    assert attempt is not None
    return (attempt / "metrics.jsonl").read_bytes()


def test_killed_before_every_file_operation_of_a_run(tmp_path: Path) -> None:
    with launcher(tmp_path) as run:
        assert not run("whole 1 operation 1000000")
        expected = metrics_of(tmp_path / "whole")
        operation = 0
        while run(f"{operation} 1 operation {operation}"):
            check(tmp_path / str(operation))
            assert not run(f"{operation} 1 operation 1000000")  # goes on, and comes to the same end
            assert check(tmp_path / str(operation)) == 1
            assert metrics_of(tmp_path / str(operation)) == expected
            operation += 1
    assert operation > 40  # a run of four steps makes about sixty


def test_killed_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(0)
    finished = kills = tries = 0
    with launcher(tmp_path) as run:
        while finished < 2:
            tries += 1  # later kills leave more time, so that a slow machine comes to the end, too
            kills += run(f"store 2 seconds {chance.uniform(0.0, 0.004 * tries)}")
            before, finished = finished, check(tmp_path / "store")
            assert finished >= before
    assert kills > 0
