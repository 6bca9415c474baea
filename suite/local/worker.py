"""A worker process: takes runs one after the other and tells what happens to them.

Each line of stdin is JSON, {"run": path of a spec.json}; each line of stdout is an event, a JSON object:

    {"event": "progress", ...}                                 what the training loop tells
    {"event": "ended", "run_id", "outcome", "message", "log"}  outcome as in `OUTCOMES`

Prints of library code do not reach stdout: they go to logs/RUN_ID.log of the store, as does the traceback of
an exception, after which the process ends, because what raised may have left it in any state. SIGTERM
(and the death of the parent) asks the run to save and stop at its next step; the parent alone handles SIGINT.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from suite.claim import RunBusy
from suite.errors import SteppeError
from suite.registry import Registry
from suite.store import RunFolder

OUTCOMES = ("done", "failed", "interrupted", "busy", "mistake", "error")
"""failed: the run diverged and has a record; mistake: a SteppeError; error: the code raised or crashed."""

ENTRY = "suite.train:run_one"
CHECKPOINT_S = 60.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Emit = Callable[[dict[str, Any]], None]


class Stop:
    """Whether the run in hand should save and stop: after SIGTERM or SIGHUP, or when the parent died."""

    def __init__(self) -> None:
        self._asked = False
        self._parent = os.getppid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def __call__(self) -> bool:
        """Say whether to stop; cheap enough for every step."""
        return self._asked or os.getppid() != self._parent


def main() -> int:
    """Serve until stdin ends, `Stop` is asked, or a run raises."""
    stop = Stop()
    args = _arguments()
    emit = _reserve_stdout()
    faulthandler.enable(file=2)  # a segfault says where, in the log of the run that it ended
    registry = Registry(args.plugin)
    for line in sys.stdin:
        folder = RunFolder(Path(json.loads(line)["run"]).parent)
        with _log(folder) as log:
            event = _serve(folder, registry, args, stop, emit)
        gc.collect()
        where = str(log) if log and log.exists() else ""
        emit({"event": "ended", "run_id": folder.run_id, "log": where, **event})
        if event["outcome"] == "error" or stop():
            return 0
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m suite.local.worker")
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--checkpoint-s", type=float, default=CHECKPOINT_S)
    parser.add_argument("--entry", default=ENTRY, help="the function that executes a run, as module:function")
    return parser.parse_args()


def _serve(
    folder: RunFolder, registry: Registry, args: argparse.Namespace, stop: Stop, emit: Emit
) -> dict[str, str]:
    if stop():
        return {"outcome": "interrupted", "message": ""}
    try:
        _set_threads(folder.spec().threads)
        module, _, function = args.entry.partition(":")
        run_one = getattr(importlib.import_module(module), function)  # here torch is loaded
        outcome = run_one(
            folder,
            registry,
            args.data,
            stop=stop,
            progress=lambda row: emit({"event": "progress", **row}),
            checkpoint_s=args.checkpoint_s,
        )
    except RunBusy as error:
        return {"outcome": "busy", "message": str(error)}
    except SteppeError as error:
        return {"outcome": "mistake", "message": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one run's defect must not stop the others
        traceback.print_exc()
        reason = next(iter(str(error).splitlines()), "")
        return {"outcome": "error", "message": f"{type(error).__name__}: {reason}"}
    return {"outcome": outcome, "message": ""}


def _set_threads(n: int) -> None:
    """Thread pools read these once, when their library is loaded; later runs set torch's own number."""
    for name in _THREADS:
        os.environ[name] = str(n)


def _reserve_stdout() -> Emit:
    """Keep the real stdout for events; whatever else prints goes to stderr."""
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def emit(event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # the parent died; `Stop` sees that
            while line:
                line = line[os.write(private, line) :]

    return emit


@contextlib.contextmanager
def _log(folder: RunFolder) -> Iterator[Path | None]:
    """Send everything that prints to logs/RUN_ID.log; a log that stayed empty is removed."""
    path = folder.path.parent.parent / "logs" / f"{folder.run_id}.log"
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
