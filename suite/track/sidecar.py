"""The detached process that mirrors one sweep: `python -m suite.track.sidecar`, one a sweep.

Each line of stdin is JSON, {"run", "caption", "ended"}: a run started, or ended. At the end of stdin it
writes what is outstanding, tells its state in lines on stdout, and goes after `LINGER_S` at the latest. It
has a session of its own, so that a Ctrl-C is not for it, and a low priority. It does not import wandb.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import signal
import sys
import time

from suite.store.store import Store
from suite.track.mode import Target
from suite.track.state import open_log
from suite.track.supervisor import Supervisor
from suite.workers.signals import release

LINGER_S = 120.0
"""Seconds after the sweep in which the sidecar finishes; what is left then is for `steppe wandb sync`."""

NICE = 10
_TURN_S = 1.0


class _Inbox:
    """Lines from the process that runs the sweep."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.ended_at: float | None = None
        self._supervisor, self._rest = supervisor, b""
        supervisor.selector.register(0, selectors.EVENT_READ, self.read)

    def read(self) -> None:
        chunk = os.read(0, 1 << 16)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._supervisor.take(json.loads(line))
        if not chunk:
            self._supervisor.selector.unregister(0)
            self._supervisor.close()
            self.ended_at = time.monotonic()


def serve(supervisor: Supervisor) -> None:
    """Mirror until stdin ended and nothing is left, or its time is over."""
    inbox = _Inbox(supervisor)
    told = ""
    while True:
        supervisor.turn(_TURN_S)
        if inbox.ended_at is None:
            continue
        state = json.dumps(
            {"done": len(supervisor.done), "left": supervisor.left, "lost": len(supervisor.lost),
             "problem": supervisor.problem}
        )  # fmt: skip
        if state != told:
            told = state
            with contextlib.suppress(OSError):  # nobody waits any more
                os.write(1, state.encode() + b"\n")
        if not supervisor.left or time.monotonic() - inbox.ended_at > LINGER_S:
            return


def _end(*_: object) -> None:
    sys.exit(0)  # `steppe wandb sync` mirrors what is missing


def main() -> int:
    """Serve the store and target of the arguments."""
    parser = argparse.ArgumentParser(prog="python -m suite.track.sidecar")
    parser.add_argument("--store", required=True)
    parser.add_argument("--target", required=True, help="the fields of a Target, as JSON")
    args = parser.parse_args()
    os.nice(NICE)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler's warning, for the runs
    signal.signal(signal.SIGTERM, _end)
    release()
    store = Store(args.store)
    log = open_log(store.root)
    os.dup2(log, 2)
    supervisor = Supervisor(store, Target(**json.loads(args.target)), log)
    try:
        serve(supervisor)
    finally:
        supervisor.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
