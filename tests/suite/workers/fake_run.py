"""Stands in for training in the tests of the pool: the optimizer's name says what the run does."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from typing import Any

from suite.engine.host import Host
from suite.entries.stored_run import StoredRun
from suite.errors import SteppeError
from suite.files import storage_error
from tests.suite.fake_records import make_record

STEPS = 10


def run_one(run: StoredRun, host: Host) -> str:
    folder, spec, stop, progress = run.folder, run.spec, host.stop, host.progress
    kind = spec.optimizer.name
    with folder.start(host.restart_count, host.job) as attempt:
        threads = os.environ["OMP_NUM_THREADS"]
        attempt.event("worker", pid=os.getpid(), threads=threads, data=str(run.data_root))
        attempt.event("where", gpu=os.environ.get("CUDA_VISIBLE_DEVICES"), checkpoint_s=host.checkpoint_s)
        for step in range(STEPS):
            while kind == "waits" and not stop():
                progress(_progress(spec, step))
                time.sleep(0.02)
            if stop():
                attempt.event("stopped", step=step)
                return "interrupted"
            progress(_progress(spec, step + 1))
        if kind == "refused":  # as long as the test wants
            left = folder.path / "refusals"
            n = int(left.read_text())
            left.write_text(str(max(0, n - 1)))
            if n:
                raise storage_error(left, OSError(errno.ENOSPC, "full"))
        if kind == "overtaken":
            return "interrupted"
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "raises":
            raise ValueError("the first line\nthe second line")
        if kind == "exits":
            sys.exit(3)
        if kind == "mistaken":
            raise SteppeError("rho=-1 is out of range")
        if kind == "crashes":
            ctypes.string_at(0)  # a segmentation fault
        if kind == "stubborn":
            time.sleep(600)
        if kind == "prints":
            print("library talk")
            os.write(1, b"from below Python\n")
        attempt.publish(make_record(spec, "failed" if kind == "diverges" else "completed"))
    return "failed" if kind == "diverges" else "done"


def _progress(spec: Any, step: int) -> dict[str, Any]:
    return {
        "run_id": spec.run_id,
        "task": spec.task.name,
        "optimizer": spec.optimizer.name,
        "seed": spec.seed,
        "epoch": step // 5,
        "epochs": 2.0,
        "step": step,
        "steps": STEPS,
        "loss": 1.0 / (step + 1),
        "score": None,
        "metric": "accuracy",
        "unit": "%",
        "sample_gradients": 100 * step,
        "state": "running",
    }
