"""A pool of worker processes on this machine: executes runs in order, several at a time.

A worker executes many runs, because importing torch, torchvision and timm takes longer than a small run.
Workers are started by exec, never by fork. A worker that dies fails its run only, and is replaced. The first
Ctrl-C, SIGTERM or SIGUSR2 makes every run save at its next step; a second Ctrl-C kills the workers. A run
that ends by a mistake or an error gets the reason written into its folder.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from suite.engine.host import CHECKPOINT_S
from suite.store.folders import Store
from suite.workers.event_loop import EventLoop, PoolResult
from suite.workers.network import Place
from suite.workers.process import Event, worker_command
from suite.workers.serve import ENTRY
from suite.workers.signals import counted


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
    stop_requests: Callable[[], int] | None = None,
    place: Place | None = None,
) -> PoolResult:
    """Execute runs whose specs are in the store; return when all have ended, or after a stop request.

    Args:
        store_root: the store.
        run_ids: the runs in the order in which they start.
        workers: number of concurrent runs. GPUs are assigned round robin.
        plugins: plugin files of the registry.
        data_root: the folder of the data sets.
        checkpoint_s: seconds between the checkpoints of a run.
        on_event: called in this thread with each event: the workers' (see `suite.workers.serve`) and
            {"event": "started", "run_id", "task", "optimizer", "seed"}, {"event": "stopping", "message"}.
        entry: the function that executes a run, as module:function.
        job: the scheduler's name of this pool's job.
        restart_count: how often the scheduler restarted the job, see `RunFolder.start`.
        stop_requests: returns the number of stop requests so far; polled. One makes the runs save, two kill
            them. By default, signals to this process are counted.
        place: number and location of the ranks of a run; by default one local rank.

    """
    place = place or Place()
    command = worker_command(plugins, data_root)
    command += [f"--entry={entry}", f"--address={place.address}", f"--checkpoint-s={checkpoint_s}"]
    command += [f"--job={job}", f"--restart-count={restart_count}"]
    loop = EventLoop(Store(store_root), deque(run_ids), command, on_event, job, place)
    with counted() if stop_requests is None else contextlib.nullcontext(stop_requests) as n_requests:
        try:
            loop.serve(max(1, workers), n_requests)
        finally:
            loop.close()
    return loop.result
