"""A worker process: takes runs one after the other and tells what happens to them.

Each line of stdin is JSON, {"store": its root, "run_id"}; each line of stdout is an event, a JSON object:

    {"event": "progress", ...}                       what the training loop tells
    {"event": "rendezvous", "run_id", "port"}        rank 0 of several processes awaits the others there
    {"event": "ended", "run_id", "outcome", "message", "log", "last"}  outcome as in `OUTCOMES`

`last` says that the process ends now. A process that is called to the run of another has {"rank", "address",
"port"} in its line: it follows, and obeys no signal before that run is over.

Prints of library code do not reach stdout: they go to logs/RUN_ID.log of the store, as does the traceback of
an exception, after which the process ends, because what raised may have left it in any state. SIGTERM and
SIGUSR2 (and the death of the parent) ask the run to save and stop at its next step, after which the process
ends, too; the parent alone handles SIGINT.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.engine.host import CHECKPOINT_S, Host
from suite.entries.registry import Registry
from suite.entries.stored_run import StoredRun
from suite.errors import RankLostError, SteppeError
from suite.files import StorageError
from suite.store.folders import RunFolder, Store
from suite.store.lease import RunBusy
from suite.workers.pipe import Messages, reserve_stdout
from suite.workers.signals import SAVE, release

OUTCOMES = ("done", "failed", "interrupted", "busy", "storage", "lost", "mistake", "error")
"""failed: the run diverged and has a record; interrupted: it was asked to stop; busy: another process works
on it, or took it over; storage: the disk refused; lost: another process of the run was killed, or its node;
mistake: another SteppeError; error: the code raised or crashed."""

NO_FAULT = frozenset({"done", "failed", "interrupted", "busy"})
"""Outcomes that need nobody to look into."""

ENTRY = "suite.engine.train:run_one"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Emit = Callable[[Mapping[str, Any]], None]


class Stop:
    """Whether the run in hand should save and stop: a signal asked for it, or the parent died."""

    def __init__(self) -> None:
        self._asked = False
        self._parent = os.getppid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGHUP, *SAVE):
            signal.signal(number, self._ask)
        release()

    def _ask(self, *_: object) -> None:
        self._asked = True

    def __call__(self) -> bool:
        """Say whether to stop; cheap enough for every step."""
        return self._asked or os.getppid() != self._parent


def main() -> int:
    """Serve until stdin ends, `Stop` is asked, or a run raises."""
    stop = Stop()
    args = _arguments()
    emit = reserve_stdout()
    faulthandler.enable(file=2)  # a segfault says where, in the log of the run that it ended
    registry = Registry(args.plugin)
    for order in Messages(sys.stdin):  # which may be a connection to another node
        folder = Store(order["store"]).run(order["run_id"])
        with _log(folder, order.get("rank", 0)) as log:
            event = _serve(StoredRun(folder, registry, args.data), order, args, stop, emit)
        gc.collect()
        where = str(log) if log and log.exists() else ""
        last = event["outcome"] in ("error", "lost") or stop()
        emit({"event": "ended", "run_id": folder.run_id, "log": where, "last": last, **event})
        if event["outcome"] == "lost":
            os._exit(0)  # a sum over GPUs that never ends would hold up an orderly exit for ever
        if last:
            return 0
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m suite.workers.serve")
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--checkpoint-s", type=float, default=CHECKPOINT_S)
    parser.add_argument("--entry", default=ENTRY, help="the function that executes a run, as module:function")
    parser.add_argument("--address", default="127.0.0.1", help="where the other processes reach this one")
    parser.add_argument("--job", default="", help="the scheduler's name of the job")
    parser.add_argument("--restart-count", type=int, default=0, help="how often the scheduler restarted it")
    return parser.parse_args()


def _serve(
    run: StoredRun, order: Mapping[str, Any], args: argparse.Namespace, stop: Stop, emit: Emit
) -> dict[str, str]:
    following = "rank" in order
    if stop() and not following:
        return {"outcome": "interrupted", "message": ""}
    try:
        _set_threads(run.spec.threads)
        outcome = _worker_rank(run, order) if following else _coordinator(run, args, stop, emit)
    except RankLostError as error:
        traceback.print_exc()
        return {"outcome": "lost", "message": str(error)}
    except SteppeError as error:
        return {"outcome": outcome_of(error), "message": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one run's defect must not stop the others
        traceback.print_exc()
        reason = next(iter(str(error).splitlines()), "")
        return {"outcome": "error", "message": f"{type(error).__name__}: {reason}"}
    if outcome == "interrupted" and not stop():
        return {"outcome": "busy", "message": "taken over by another process"}
    return {"outcome": outcome, "message": ""}


def _coordinator(run: StoredRun, args: argparse.Namespace, stop: Stop, emit: Emit) -> str:
    """Execute the run, alone or as rank 0."""
    module, _, function = args.entry.partition(":")
    run_one = getattr(importlib.import_module(module), function)  # here torch is loaded
    host = Host(
        stop=stop,
        progress=lambda row: emit({"event": "progress", **row}),
        checkpoint_s=args.checkpoint_s,
        restart_count=args.restart_count,
        job=args.job,
        address=args.address,
        rendezvous=lambda port: emit({"event": "rendezvous", "run_id": run.folder.run_id, "port": port}),
    )
    return str(run_one(run, host))


def _worker_rank(run: StoredRun, order: Mapping[str, Any]) -> str:
    """Take part in the run of another process."""
    from suite.engine.worker_rank import run_worker_rank  # here torch is loaded

    return run_worker_rank(run, **{key: order[key] for key in ("rank", "address", "port")})


def outcome_of(error: SteppeError) -> str:
    """Name what ended a run."""
    if isinstance(error, RunBusy):
        return "busy"
    return "storage" if isinstance(error, StorageError) else "mistake"


def _set_threads(n: int) -> None:
    """Thread pools read these once, when their library is loaded; later runs set torch's own number."""
    for name in _THREADS:
        os.environ[name] = str(n)


@contextlib.contextmanager
def _log(folder: RunFolder, rank: int) -> Iterator[Path | None]:
    """Send everything that prints to logs/RUN_ID.log, of another rank to logs/RUN_ID.RANK.log.

    A log that stayed empty is removed.
    """
    name = f"{folder.run_id}.{rank}.log" if rank else f"{folder.run_id}.log"
    path = folder.store.root / "logs" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError:  # the store refuses writes: the run itself will say so
        yield None
        return
    before = os.fstat(descriptor).st_size
    header = time.strftime("--- %Y-%m-%d %H:%M:%S ---\n").encode()
    saved = os.dup(2)
    os.dup2(descriptor, 2)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    with contextlib.suppress(OSError):
        os.write(2, header)
    try:
        yield path
    finally:
        sys.stderr.flush()
        size = os.fstat(2).st_size
        if size <= before + len(header):  # nothing was said
            with contextlib.suppress(OSError):
                os.ftruncate(2, before)
                if before == 0:
                    path.unlink()
        os.dup2(saved, 2)
        os.dup2(saved, 1)
        os.close(saved)


if __name__ == "__main__":
    sys.exit(main())
