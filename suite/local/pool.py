"""A pool of worker processes on this machine: runs in order, several at a time, one failure at a time.

Workers outlive a run, as importing torch, torchvision and timm takes longer than a small run. They are
started by exec, never by fork, and get the path of a spec. One that dies fails the run it had and is
replaced. The first Ctrl-C (or SIGTERM, or SIGUSR2) asks every run to save at its next step, a further Ctrl-C
kills. A run that the code or its input ended leaves its reason in its folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import suite
from suite.errors import SteppeError
from suite.local.signals import counted, held
from suite.local.worker import CHECKPOINT_S, ENTRY, NO_FAULT, outcome_of
from suite.store import Store

Event = dict[str, Any]
_ROOT = Path(suite.__file__).resolve().parent.parent
_POLL_S = 0.2
_EXIT_S = 20.0
_SAME_KILL_S = 1.0
"""Whoever kills a whole job may strike a worker first: only one who outlives it by so much can say why."""

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Tensors in huge pages: without, 12 % of a ResNet's step on a CPU are page faults. The bits are the same."""


@dataclass
class PoolResult:
    """What became of the runs, by id."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Runs that diverged: their records say so."""
    interrupted: list[str] = field(default_factory=list)
    """Runs without a record because somebody asked to stop, those that never started included."""
    errors: dict[str, str] = field(default_factory=dict)
    """Runs without a record for another reason, each with one line that says it."""


def run_pool(
    store_root: Path,
    run_ids: Sequence[str],
    *,
    workers: int,
    plugins: Sequence[Path | str] = (),
    data_root: Path | None = None,
    checkpoint_s: float = CHECKPOINT_S,
    on_event: Callable[[Event], None] = lambda _: None,
    entry: str = ENTRY,
    job: str = "",
    restart_count: int = 0,
    asked: Callable[[], int] | None = None,
) -> PoolResult:
    """Execute the runs, whose specs are in the store, and return when all ended or the user stopped them.

    Args:
        store_root: the store.
        run_ids: the runs in the order in which they start.
        workers: how many run at a time. With GPUs they are dealt out round robin.
        plugins: plugin files of the registry.
        data_root: the folder of the data sets.
        checkpoint_s: seconds between the checkpoints of a run.
        on_event: called in this thread with each event: the workers' own (see `suite.local.worker`) and
            {"event": "started", "run_id", "task", "optimizer", "seed"}, {"event": "stopping", "message"}.
        entry: the function that executes a run, as module:function.
        job: the scheduler's name of the job that this pool is, and
        restart_count: how often the scheduler restarted it, see `RunFolder.start`.
        asked: how often a stop was asked for, called a few times a second: once, runs save; twice, they are
            killed. Without it, the signals are counted that come while the pool runs.

    """
    command = [sys.executable, "-P", "-m", "suite.local.worker", f"--entry={entry}"]
    command += [f"--checkpoint-s={checkpoint_s}", f"--job={job}", f"--restart-count={restart_count}"]
    command += [f"--plugin={plugin}" for plugin in plugins]
    if data_root is not None:
        command.append(f"--data={data_root}")
    pool = _Pool(Store(store_root), deque(run_ids), command, on_event, job)
    with counted() if asked is None else contextlib.nullcontext(asked) as requests:
        try:
            pool.serve(max(1, workers), requests)
        finally:
            pool.close()
    return pool.result


def visible_gpus() -> list[str]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES names them: those it lists, else all that the driver lists."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(i) for i, line in enumerate(x for x in answer.stdout.splitlines() if x.startswith("GPU "))]


class _Worker:
    """A worker process and the run it has in hand."""

    def __init__(self, command: list[str], gpu: str | None) -> None:
        environment = {**HUGE_PAGES, **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self.run_id: str | None = None
        # What is said outside a run, for instance by an import that fails.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        with held():  # until it handles them
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self.stdout = self.process.stdin, self.process.stdout
        self._rest = b""

    def give(self, run_id: str, spec: Path) -> None:
        """Hand over a run; a worker that died meanwhile is noticed by the end of its stdout."""
        self.run_id = run_id
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps({"run": str(spec)}).encode() + b"\n")
            self._stdin.flush()

    def read(self) -> list[Event] | None:
        """Return the events that have arrived, None at the end of the process."""
        chunk = os.read(self.stdout.fileno(), 1 << 16)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def release(self) -> None:
        """Tell the worker that nothing more comes."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()

    def cause_of_death(self) -> str:
        """Wait for the process and describe its end in one line."""
        code = self.process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            if code == -signal.SIGKILL:
                time.sleep(_SAME_KILL_S)
            hint = "; out of memory?" if code == -signal.SIGKILL else ""
            return f"its worker process was killed by {signal.Signals(-code).name}{hint}"
        return f"its worker process ended with exit code {code}" + (f": {said[-1]}" if said else "")

    def close(self) -> None:
        """End the process, by force if it does not end by itself, and free what belongs to it."""
        self.release()
        try:
            self.process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stdout.close()
        self._errors.close()


class _Pool:
    """The state of one call of `run_pool`."""

    def __init__(
        self,
        store: Store,
        queue: deque[str],
        command: list[str],
        on_event: Callable[[Event], None],
        job: str,
    ) -> None:
        self.result = PoolResult()
        self._store, self._queue, self._command, self._on_event = store, queue, command, on_event
        self._job = job
        self._gpus = visible_gpus()
        self._slots: list[_Worker | None] = []
        self._stopped = False
        self._selector = selectors.DefaultSelector()

    def serve(self, n_workers: int, asked: Callable[[], int]) -> None:
        """Hand out runs and pass events on until nothing is left to do."""
        self._slots = [None] * min(n_workers, len(self._queue))
        answered = 0
        while True:
            if answered < min(asked(), 2):
                answered += 1
                self._stop(kill=answered == 2)
            if not self._stopped:
                self._hand_out()
            if not any(worker and worker.run_id for worker in self._slots):
                break
            for key, _ in self._selector.select(_POLL_S):
                self._listen(key.data)
        self.result.interrupted.extend(self._queue)

    def _hand_out(self) -> None:
        for slot, worker in enumerate(self._slots):
            while self._queue and (worker is None or worker.run_id is None):
                run_id = self._queue.popleft()
                folder = self._store.run(run_id)
                try:
                    spec = folder.spec()
                except SteppeError as error:
                    self._end(run_id, {"outcome": outcome_of(error), "message": str(error), "log": ""})
                    continue
                if worker is None:
                    worker = self._start(slot)
                names = {"task": spec.task.name, "optimizer": spec.optimizer.name, "seed": spec.seed}
                self._on_event({"event": "started", "run_id": run_id, **names})
                worker.give(run_id, folder.path.resolve() / "spec.json")

    def _start(self, slot: int) -> _Worker:
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        worker = _Worker(self._command, gpu)
        self._slots[slot] = worker
        self._selector.register(worker.stdout, selectors.EVENT_READ, slot)
        return worker

    def _listen(self, slot: int) -> None:
        worker = self._slots[slot]
        assert worker is not None
        events = worker.read()
        if events is None:
            self._bury(slot, worker)
            return
        for event in events:
            if event["event"] == "ended":
                worker.run_id = None
                self._end(event["run_id"], event)
                if event["last"]:  # this worker ends now; take none of its successors' runs
                    self._bury(slot, worker)
                    return
            else:
                self._on_event(event)

    def _bury(self, slot: int, worker: _Worker) -> None:
        self._selector.unregister(worker.stdout)
        self._slots[slot] = None
        if worker.run_id is not None:
            log = self._store.root / "logs" / f"{worker.run_id}.log"
            outcome = "interrupted" if self._stopped else "error"
            message, where = worker.cause_of_death(), str(log) if log.exists() else ""
            self._end(worker.run_id, {"outcome": outcome, "message": message, "log": where})
        worker.close()

    def _end(self, run_id: str, event: Event) -> None:
        outcome = event["outcome"]
        if outcome in ("done", "failed", "interrupted"):
            getattr(self.result, outcome).append(run_id)
        else:
            log = f" (log: {event['log']})" if event["log"] and outcome == "error" else ""
            self.result.errors[run_id] = event["message"] + log
        if outcome not in NO_FAULT:
            with contextlib.suppress(SteppeError):  # the disk may be the trouble
                self._store.run(run_id).note_trouble(outcome, event["message"], event["log"], self._job)
        self._on_event({**event, "event": "ended", "run_id": run_id})

    def _stop(self, *, kill: bool) -> None:
        self._stopped = True
        message = "killing" if kill else "saving at the next step; Ctrl-C kills"
        self._on_event({"event": "stopping", "message": message})
        for worker in filter(None, self._slots):
            worker.release()
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        for worker in filter(None, self._slots):
            if worker.run_id is not None:  # only after an exception in this process
                worker.process.terminate()
            worker.release()
        for worker in filter(None, self._slots):
            worker.close()
        self._selector.close()
