"""What a process that runs runs holds of the mirror: a sidecar, told by lines into a pipe, never waited for.

A pool's parent makes one for its sweep, and so may a scheduler's worker. Nothing here raises for what W&B,
the sidecar or the disk do, and only `close` takes time, at most what it is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.files import make_folder
from suite.track.content import Caption
from suite.track.mode import Target, has_key, login
from suite.track.state import FOLDER, LOG

WAIT_S = 0.5
"""Seconds that `close` waits for the sidecar."""


class Mirror:
    """Mirrors the runs of one sweep in a process of its own.

    Args:
        store_root: the store.
        target: where to, from `suite.track.mode.choose`.
        captions: by run id, how to name each run; one that is not in it tells all its parameters.
        sync: the command that repairs a mirror, for what `close` says.

    """

    def __init__(
        self,
        store_root: Path,
        target: Target,
        captions: Mapping[str, Caption],
        sync: str = "steppe wandb sync",
    ) -> None:
        self._target, self._captions, self._sync = target, captions, sync
        self._folder = store_root / FOLDER
        self._problem = ""
        self._told: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = self._start(store_root)
        except (OSError, SteppeError) as error:
            self._problem = str(error)

    def _start(self, store_root: Path) -> subprocess.Popen[bytes]:
        make_folder(self._folder)
        command = [sys.executable, "-P", "-m", "suite.track.sidecar", f"--store={store_root}",
                   f"--target={json.dumps(asdict(self._target))}"]  # fmt: skip
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._target.environment(),
            start_new_session=True,
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take up an event of `suite.workers.pool.run_pool`: a run started or ended."""
        if event["event"] == "started":
            self.tell(event["run_id"], ended=False)
        elif event["event"] == "ended":
            self.tell(event["run_id"], ended=True)

    def tell(self, run_id: str, *, ended: bool) -> None:
        """Say that a run started, or that it ended for whatever reason."""
        if self._process is None or self._process.stdin is None or self._process.stdin.closed:
            return
        named = self._captions.get(run_id)
        order = {"run": run_id, "caption": named.short().to_dict() if named else None, "ended": ended}
        line = json.dumps(order, ensure_ascii=False).encode() + b"\n"
        try:
            # Below PIPE_BUF a write is whole or refused, so a full pipe loses a line and never half of one.
            os.write(self._process.stdin.fileno(), line)
            self._told.add(run_id)
        except OSError as error:
            self._problem = f"its sidecar does not listen ({error.strerror}): see {self._folder / LOG}"

    def close(self, wait_s: float = WAIT_S) -> str:
        """Say that nothing more comes, wait up to `wait_s` for what is outstanding, and say how it stands."""
        state = {"done": 0, "left": len(self._told), "lost": 0, "problem": ""}
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            until = time.monotonic() + wait_s
            state |= self._last_state(until)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on; else no zombie of it stays
                self._process.wait(max(0.0, until - time.monotonic()))
        return self._sentence(state)

    def _last_state(self, until: float) -> dict[str, Any]:
        """Read what the sidecar tells until it goes or the time is over."""
        assert self._process is not None
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        read = b""
        while (left := until - time.monotonic()) > 0 and select.select([out], [], [], left)[0]:
            chunk = os.read(out, 1 << 16)
            if not chunk:
                break
            read += chunk
        self._process.stdout.close()
        lines = read.split(b"\n")[:-1]
        return dict(json.loads(lines[-1])) if lines else {}

    def _sentence(self, state: Mapping[str, Any]) -> str:
        n, done, left, lost = len(self._told), state["done"], state["left"], state["lost"]
        problem = self._problem or state["problem"]
        if problem and (left or lost or not n):
            missing = f"{left + lost} of {_runs(n)} not mirrored" if n else "nothing is mirrored"
            return f"W&B: {problem}: {missing}; see {self._folder / LOG}, then `{self._sync}`"
        if not n:
            return ""
        if self._target.mode == "online":
            rest = f", {left} more on the way" if left else ""
            return (
                f"W&B: {_runs(done)} mirrored to {self._target.server}, project {self._target.project}{rest}"
            )
        what = f"{_runs(n)} go to" if left else f"{_runs(done)} in"
        first = "" if has_key(self._target.server) else f"{login(self._target.server)}, then "
        return f"W&B: offline files of {what} {self._folder}; {first}`{self._sync}` uploads them"


def _runs(n: int) -> str:
    return f"{n} run{'' if n == 1 else 's'}"
