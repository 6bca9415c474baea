"""The lock of a store lasts as long as anybody who may still change its queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.client import ask
from slurm.submission import exclusive, taken


def test_the_lock_is_free_before_and_after(tmp_path: Path) -> None:
    assert not taken(tmp_path)
    with exclusive(tmp_path, pytest.fail):
        assert ask("true") == ""
        assert taken(tmp_path)
    assert not taken(tmp_path)


def test_an_sbatch_whose_submitter_was_killed_keeps_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, begun, go = tmp_path / "sbatch", tmp_path / "begun", tmp_path / "go"
    program.write_text(
        f"#!/bin/sh\ntouch '{begun}'\n"
        f"for i in $(seq 1200); do [ -e '{go}' ] && exit; sleep 0.05; done\n"  # a minute at most
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    code = (
        "import pathlib; from slurm.client import ask; from slurm.submission import exclusive\n"
        f"with exclusive(pathlib.Path({str(tmp_path)!r}), print): ask('sbatch')"
    )
    submitter = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait(begun.exists)
        submitter.send_signal(signal.SIGKILL)
        submitter.wait()
        assert taken(tmp_path)
    finally:
        submitter.kill()
        go.touch()
    wait(lambda: not taken(tmp_path))


def wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)
