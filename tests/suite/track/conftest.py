"""A server on loopback, an environment without keys, and ways to mirror, to look and to clean up."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite.store.folders import Store
from suite.track.launch import Mirror
from suite.track.mirror_folder import MirrorFolder, open_log
from suite.track.mode import Target
from suite.track.sidecar import Supervisor
from suite.track.wandb_process import Command
from tests.suite.track.offline import OfflineRun, read
from tests.suite.track.stub import Stub, forget_keys, serving

LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def keyless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_keys(tmp_path, monkeypatch)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with serving(monkeypatch) as made:
        yield made


OFFLINE = Target("offline", "https://api.wandb.ai")


def online(stub: Stub) -> Target:
    return Target("online", stub.url)


@contextlib.contextmanager
def supervised(store: Store, target: Target) -> Iterator[Supervisor]:
    with open_log(store.root) as log:
        supervisor = Supervisor(store, target, log)
        try:
            yield supervisor
        finally:
            supervisor.kill()


def turn_until(supervisor: Supervisor, true: Callable[[], object]) -> None:
    until = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < until, f"not within {LIMIT_S} s; {supervisor.problem}"
        supervisor.turn(0.02)


def mirror_all(store: Store, target: Target, *run_ids: str) -> Supervisor:
    """Mirror ended runs to the end, without a process around the supervisor."""
    with supervised(store, target) as supervisor:
        for run_id in run_ids:
            supervisor.take(Command(run_id))
        supervisor.close()
        turn_until(supervisor, lambda: not supervisor.left)
    return supervisor


def offline_run(store: Store, run_id: str) -> OfflineRun:
    """Read the one offline file of a run."""
    (segment,) = MirrorFolder(store.root, run_id).segments()
    (file,) = segment.glob("*.wandb")
    return read(file)


def wandb_cores(root: Path) -> list[int]:
    """Processes of wandb's own that work for the mirror of this store."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if (
                arguments[0].endswith(b"wandb-core")
                and str(root).encode() in (entry / "environ").read_bytes()
            ):
                found.append(int(entry.name))
    return found


def session_of(pid: int) -> list[int]:
    """Processes of the session that this one leads."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def end(mirror: Mirror) -> None:
    """Leave nothing of a sidecar that may live on."""
    process = mirror._process
    if process is None:
        return
    for pid in session_of(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def wait_for(true: Callable[[], object], what: str) -> None:
    until = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < until, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.02)
