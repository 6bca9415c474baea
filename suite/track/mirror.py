"""The process that imports wandb and writes runs to it; whoever started it may kill it at any time.

Each line of stdin is JSON, {"run", "caption", "ended"}: follow that run, or, ended, write it to its end; told
of a table, {"run", "table"}, it writes that. Each line of stdout is {"at": run} before what may take long, or
{"run", "outcome", "message"}. After a failure of wandb's the process ends, as its state is then anybody's
guess. At the end of stdin all runs count as ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any

from suite.errors import SteppeError
from suite.store.store import Store
from suite.track import table
from suite.track.content import Caption
from suite.track.mode import Target, without_secrets
from suite.track.run import RunMirror
from suite.track.state import MirrorBusy

OUTCOMES = ("done", "nothing", "busy", "lost", "failed", "refused", "missing")
"""nothing: the store has none of it; busy: another process mirrors it; lost: it is damaged, or its disk
is full; failed: wandb raised; refused: the server does not take our key; missing: there is no wandb."""

_POLL_S = 2.0
_REFUSALS = ("error 401", "error 403", "AuthenticationError", "api_key not configured", "API key")

Emit = Callable[[dict[str, Any]], None]


class _Session:
    """The runs in hand."""

    def __init__(self, store: Store, target: Target, emit: Emit) -> None:
        self._store, self._target, self._emit = store, target, emit
        self._open: dict[str, RunMirror] = {}

    def take(self, order: dict[str, Any]) -> None:
        """Follow a run or write one to its end."""
        run_id, outcome = order["run"], "done"
        with self._guard(run_id):
            if "table" in order:
                table.publish(self._store.root, run_id, order["table"], self._target)
            else:
                if run_id not in self._open:
                    names = Caption(**order["caption"]) if order["caption"] else None
                    self._open[run_id] = RunMirror(self._store, run_id, names, self._target)
                if not order["ended"]:
                    return
                outcome = self._open[run_id].finish()
                del self._open[run_id]
            self._emit({"run": run_id, "outcome": outcome, "message": ""})

    def poll(self) -> None:
        """Write what came of the runs that are followed."""
        for run_id, mirror in [*self._open.items()]:
            with self._guard(run_id):
                mirror.feed()

    def close(self) -> None:
        """Write every run that is followed to its end."""
        for run_id in [*self._open]:
            self.take({"run": run_id, "caption": None, "ended": True})

    @contextlib.contextmanager
    def _guard(self, run_id: str) -> Any:
        """Tell what is in hand, and what became of it where it fails."""
        self._emit({"at": run_id})
        try:
            yield
        except MirrorBusy:
            self._emit({"run": run_id, "outcome": "busy", "message": ""})
        except SteppeError as error:  # the store's fault or the disk's: wandb can go on
            self._emit({"run": run_id, "outcome": "lost", "message": str(error)[:300]})
            if run_id in self._open:
                self._open.pop(run_id).release()
        except Exception as error:  # noqa: BLE001 - wandb raises anything
            print(without_secrets(traceback.format_exc()), file=sys.stderr, flush=True)
            said = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))
            refused = any(word in said for word in _REFUSALS)
            outcome = "refused" if refused else "failed"
            self._emit({"run": run_id, "outcome": outcome, "message": said[:300]})
            os._exit(1)  # at the usual end wandb would wait for its process, which may be dead


def serve(session: _Session, emit: Emit) -> None:
    """Take orders and follow runs until stdin ends."""
    rest = b""
    while True:
        emit({"at": ""})
        if select.select([0], [], [], _POLL_S)[0]:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                session.close()
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                session.take(json.loads(line))
        session.poll()


def main() -> int:
    """Serve the store and target of the arguments."""
    parser = argparse.ArgumentParser(prog="python -m suite.track.mirror")
    parser.add_argument("--store", required=True)
    parser.add_argument("--target", required=True, help="the fields of a Target, as JSON")
    args = parser.parse_args()
    emit = _reserve_stdout()
    try:
        import wandb  # noqa: F401
    except Exception as error:  # noqa: BLE001 - a half-installed package raises anything
        traceback.print_exc()
        emit({"run": "", "outcome": "missing", "message": f"{type(error).__name__}: {error}"[:300]})
        return 1
    session = _Session(Store(args.store), Target(**json.loads(args.target)), emit)
    serve(session, emit)
    sys.stderr.flush()
    os._exit(0)


def _reserve_stdout() -> Emit:
    """Keep the real stdout for messages; whatever else prints goes to stderr, which is the log."""
    private = os.dup(1)
    os.dup2(2, 1)

    def emit(message: dict[str, Any]) -> None:
        try:
            os.write(private, json.dumps(message).encode() + b"\n")
        except OSError:  # whoever started this was killed
            os._exit(1)

    return emit


if __name__ == "__main__":
    sys.exit(main())
