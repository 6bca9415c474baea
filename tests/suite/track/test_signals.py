"""A scheduler signals every process of a job, the sidecar among them."""

from __future__ import annotations

import signal
from pathlib import Path

from suite.store.folders import Store
from suite.track.launch import Mirror
from suite.track.mirror_folder import MirrorFolder
from suite.workers.signals import held
from tests.suite.fake_records import make_spec
from tests.suite.track.conftest import LIMIT_S, OFFLINE, end, offline_run, session_of, wait_for
from tests.suite.track.fake_run import N_ROWS, done


def test_a_warning_is_not_for_the_sidecar_also_while_it_starts(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec()
    done(store, spec)
    with held():
        mirror = Mirror(tmp_path, OFFLINE, {})
    try:
        assert mirror._process is not None
        mirror._process.send_signal(signal.SIGUSR2)
        mirror.send(spec.run_id, ended=True)
        mirror.close(LIMIT_S)
        assert mirror._process.returncode == 0
        assert len(offline_run(store, spec.run_id).rows) == N_ROWS
    finally:
        end(mirror)


def test_at_the_last_call_the_sidecar_goes_and_leaves_nothing_running(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec()
    done(store, spec, 4000)
    mirror = Mirror(tmp_path, OFFLINE, {})
    try:
        assert mirror._process is not None
        assert mirror._process.stdin is not None
        mirror.send(spec.run_id, ended=True)
        mirror._process.stdin.close()  # nothing more is gathered
        wait_for(MirrorFolder(tmp_path, spec.run_id).segments, "the sidecar in the middle of its work")
        pid = mirror._process.pid
        assert len(session_of(pid)) > 1
        mirror._process.send_signal(signal.SIGTERM)
        mirror._process.wait(LIMIT_S)
        assert mirror.close(0.0).startswith("W&B: ")
        assert not MirrorFolder(tmp_path, spec.run_id).markers()
        wait_for(lambda: not session_of(pid), "nothing of it runs")
    finally:
        end(mirror)
