"""A worker process: executes one run after the other and reports events.

Each line of stdin is JSON, {"store": its root, "run_id"}; each line of stdout is an event, a JSON object:

    {"event": "progress", ...}                       a row of the training loop
    {"event": "rendezvous", "run_id", "port"}        rank 0 waits for the other ranks at this port
    {"event": "ended", "run_id", "outcome", "message", "log", "last"}  outcome: one of `OUTCOMES`

`last` means that the process exits now. Ranks above 0 also get {"rank", "address", "port"} in their line:
they follow rank 0 and ignore stop signals until the run is over.

Output of library code goes to logs/RUN_ID.log of the store, as does the traceback of an exception. After an
exception the process exits, because its state is unknown. SIGTERM, SIGUSR2 and the death of the parent make
the run save and stop at its next step; then the process exits. The parent alone handles SIGINT.
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
"""failed: the run diverged and has a record; interrupted: a stop was requested; busy: another process holds
the run, or took it over; storage: the file system refused a write; lost: another rank or its node died;
mistake: any other SteppeError; error: the code raised or crashed."""

NO_FAULT = frozenset({"done", "failed", "interrupted", "busy"})
"""Outcomes that need no action by the user."""

ENTRY = "suite.engine.train:run_one"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Emit = Callable[[Mapping[str, Any]], None]


class Stop:
    """Stop flag of a worker: set by a signal or by the death of the parent."""

    def __init__(self) -> None:
        self._signalled = False
        self._parent = os.getppid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGHUP, *SAVE):
            signal.signal(number, self._note)
        release()

    def _note(self, *_: object) -> None:
        self._signalled = True

    def __call__(self) -> bool:
        """Return whether the run should save and stop. Cheap enough for every step."""
        return self._signalled or os.getppid() != self._parent


def main() -> int:
    """Execute runs until stdin ends, a stop is requested, or a run raises."""
    stop = Stop()
    args = _arguments()
    emit = reserve_stdout()
    faulthandler.enable(file=2)  # a segfault leaves its traceback in the log of its run
    registry = Registry(args.plugin)
    for message in Messages(sys.stdin):  # which may be a connection to another node
        folder = Store(message["store"]).run(message["run_id"])
        with _log(folder, message.get("rank", 0)) as log:
            event = _execute(StoredRun(folder, registry, args.data), message, args, stop, emit)
        gc.collect()
        path = str(log) if log and log.exists() else ""
        last = event["outcome"] in ("error", "lost") or stop()
        emit({"event": "ended", "run_id": folder.run_id, "log": path, "last": last, **event})
        if event["outcome"] == "lost":
            os._exit(0)  # an orderly exit would wait for ever for a collective that hangs
        if last:
            return 0
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m suite.workers.serve")
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--checkpoint-s", type=float, default=CHECKPOINT_S)
    parser.add_argument("--entry", default=ENTRY, help="the function that executes a run, as module:function")
    parser.add_argument(
        "--address", default="127.0.0.1", help="address at which the other ranks reach this one"
    )
    parser.add_argument("--job", default="", help="the scheduler's name of the job")
    parser.add_argument("--restart-count", type=int, default=0, help="how often the scheduler restarted it")
    return parser.parse_args()


def _execute(
    run: StoredRun, message: Mapping[str, Any], args: argparse.Namespace, stop: Stop, emit: Emit
) -> dict[str, str]:
    """Execute a run, or one rank of it; return outcome and message."""
    follows = "rank" in message
    if stop() and not follows:
        return {"outcome": "interrupted", "message": ""}
    try:
        _set_threads(run.spec.threads)
        outcome = _worker_rank(run, message) if follows else _coordinator(run, args, stop, emit)
    except RankLostError as error:
        traceback.print_exc()
        return {"outcome": "lost", "message": str(error)}
    except SteppeError as error:
        return {"outcome": outcome_of(error), "message": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a defect of one run must not stop the others
        traceback.print_exc()
        reason = next(iter(str(error).splitlines()), "")
        return {"outcome": "error", "message": f"{type(error).__name__}: {reason}"}
    if outcome == "interrupted" and not stop():
        return {"outcome": "busy", "message": "taken over by another process"}
    return {"outcome": outcome, "message": ""}


def _coordinator(run: StoredRun, args: argparse.Namespace, stop: Stop, emit: Emit) -> str:
    """Execute the run, alone or as rank 0."""
    module, _, function = args.entry.partition(":")
    run_one = getattr(importlib.import_module(module), function)  # loads torch
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


def _worker_rank(run: StoredRun, message: Mapping[str, Any]) -> str:
    """Execute one rank above 0 of the run."""
    from suite.engine.worker_rank import run_worker_rank  # loads torch

    return run_worker_rank(run, **{key: message[key] for key in ("rank", "address", "port")})


def outcome_of(error: SteppeError) -> str:
    """Return the outcome, one of `OUTCOMES`, of a run that ended with this error."""
    if isinstance(error, RunBusy):
        return "busy"
    return "storage" if isinstance(error, StorageError) else "mistake"


def _set_threads(n: int) -> None:
    """Set the variables that thread pools read once, at import; later runs set torch's own number."""
    for name in _THREADS:
        os.environ[name] = str(n)


@contextlib.contextmanager
def _log(folder: RunFolder, rank: int) -> Iterator[Path | None]:
    """Redirect all output to logs/RUN_ID.log, for ranks above 0 to logs/RUN_ID.RANK.log.

    An empty log is removed.
    """
    name = f"{folder.run_id}.{rank}.log" if rank else f"{folder.run_id}.log"
    path = folder.store.root / "logs" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError:  # the store refuses writes: the run reports that
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
        if size <= before + len(header):  # no output
            with contextlib.suppress(OSError):
                os.ftruncate(2, before)
                if before == 0:
                    path.unlink()
        os.dup2(saved, 2)
        os.dup2(saved, 1)
        os.close(saved)


if __name__ == "__main__":
    sys.exit(main())
