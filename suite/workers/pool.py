"""A pool of worker processes on this machine: runs in order, several at a time, one failure at a time.

Workers outlive a run, as importing torch, torchvision and timm takes longer than a small run. They are
started by exec, never by fork, and get the path of a spec. One that dies fails the run it had and is
replaced. The first Ctrl-C (or SIGTERM, or SIGUSR2) asks every run to save at its next step, a further Ctrl-C
kills. A run that the code or its input ended leaves its reason in its folder.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suite.engine.host import CHECKPOINT_S
from suite.errors import SteppeError
from suite.spec import RunSpec
from suite.store.folders import Store
from suite.workers.network import accept, towards
from suite.workers.process import Event, Process, Worker, environment, visible_gpus, worker_command
from suite.workers.rank_group import RankGroup
from suite.workers.serve import ENTRY, NO_FAULT, outcome_of
from suite.workers.signals import counted

_POLL_S = 0.2


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
    place: Place | None = None,
) -> PoolResult:
    """Execute the runs, whose specs are in the store, and return when all ended or the user stopped them.

    Args:
        store_root: the store.
        run_ids: the runs in the order in which they start.
        workers: how many run at a time. With GPUs they are dealt out round robin.
        plugins: plugin files of the registry.
        data_root: the folder of the data sets.
        checkpoint_s: seconds between the checkpoints of a run.
        on_event: called in this thread with each event: the workers' own (see `suite.workers.serve`) and
            {"event": "started", "run_id", "task", "optimizer", "seed"}, {"event": "stopping", "message"}.
        entry: the function that executes a run, as module:function.
        job: the scheduler's name of the job that this pool is, and
        restart_count: how often the scheduler restarted it, see `RunFolder.start`.
        asked: how often a stop was asked for, called a few times a second: once, runs save; twice, they are
            killed. Without it, the signals are counted that come while the pool runs.
        place: how many processes a run has, and where they are; one, unless given.

    """
    place = place or Place()
    command = worker_command(plugins, data_root)
    command += [f"--entry={entry}", f"--address={place.address}", f"--checkpoint-s={checkpoint_s}"]
    command += [f"--job={job}", f"--restart-count={restart_count}"]
    pool = _Pool(Store(store_root), deque(run_ids), command, on_event, job, place)
    with counted() if asked is None else contextlib.nullcontext(asked) as requests:
        try:
            pool.serve(max(1, workers), requests)
        finally:
            pool.close()
    return pool.result


@dataclass(frozen=True)
class Place:
    """Where the processes of a run are."""

    ranks: int = 1
    """Processes of each run."""
    address: str = "127.0.0.1"
    """Of this machine, at which the others reach rank 0."""
    listener: socket.socket | None = None
    """Where remote workers connect, for one run at a time; None: all workers are started here."""
    key: str = ""
    """The secret that remote workers give."""


class _Pool:
    """The state of one call of `run_pool`."""

    def __init__(
        self,
        store: Store,
        queue: deque[str],
        command: list[str],
        on_event: Callable[[Event], None],
        job: str,
        place: Place,
    ) -> None:
        self.result = PoolResult()
        self._store, self._queue, self._command, self._on_event = store, queue, command, on_event
        self._job, self._place = job, place
        self._gpus = visible_gpus()
        self._network = towards(place.address) if place.ranks > 1 else {}
        self._teams: list[RankGroup] = []
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        if place.listener is not None:
            self._selector.register(place.listener, selectors.EVENT_READ, None)

    def serve(self, n_workers: int, asked: Callable[[], int]) -> None:
        """Hand out runs and pass events on until nothing is left to do."""
        self._teams = [RankGroup() for _ in range(min(n_workers, len(self._queue)))]
        answered = 0
        while True:
            if answered < min(asked(), 2):
                answered += 1
                self._stop(kill=answered == 2)
            if not self._stopped:
                self._hand_out()
            if not any(team.busy for team in self._teams):
                break
            for key, _ in self._selector.select(_POLL_S):
                if key.data is None:
                    self._answer()
                else:
                    self._listen(*key.data)
            for team in self._teams:
                team.kill_stuck()
                if (event := team.told()) is not None:
                    self._end(event["run_id"], self._as_asked(event))
        self.result.interrupted.extend(self._queue)

    def _hand_out(self) -> None:
        for team in self._teams:
            while self._queue and not team.busy:
                run_id = self._queue.popleft()
                folder = self._store.run(run_id)
                try:
                    spec = folder.spec()
                    self._check_ranks(spec)
                except SteppeError as error:
                    self._end(run_id, {"outcome": outcome_of(error), "message": str(error), "log": ""})
                    continue
                if 0 not in team.workers:
                    self._start(team, 0)
                names = {"task": spec.task.name, "optimizer": spec.optimizer.name, "seed": spec.seed}
                self._on_event({"event": "started", "run_id": run_id, **names})
                team.start(run_id, self._line(run_id))

    def _line(self, run_id: str) -> Event:
        return {"store": str(self._store.root.resolve()), "run_id": run_id}

    def _check_ranks(self, spec: RunSpec) -> None:
        if spec.ranks != self._place.ranks:
            raise SteppeError(
                f"the run is for {spec.ranks} ranks and here are {self._place.ranks}: run it with --ranks "
                f"{spec.ranks}, or submit it with a profile of as many processes"
            )

    def _start(self, team: RankGroup, rank: int) -> None:
        here = self._teams.index(team) * self._place.ranks + rank
        gpu = self._gpus[here % len(self._gpus)] if self._gpus else None
        self._enter(team, rank, Process(self._command, environment(gpu, self._network)))

    def _enter(self, team: RankGroup, rank: int, worker: Worker) -> None:
        team.workers[rank] = worker
        self._selector.register(worker.channel, selectors.EVENT_READ, (team, rank, worker))

    def _answer(self) -> None:
        """Accept a remote worker, which gives its rank first."""
        assert self._place.listener is not None
        accepted = accept(self._place.listener, self._place.key)
        if accepted is None:
            return
        worker, rank = accepted
        if not 0 < rank < self._place.ranks:
            worker.close()
            return
        team = self._teams[0]
        if (old := team.workers.get(rank)) is not None:
            self._bury(team, rank, old)
        self._enter(team, rank, worker)
        team.call(rank)

    def _listen(self, team: RankGroup, rank: int, worker: Worker) -> None:
        if team.workers.get(rank) is not worker:  # buried a moment ago
            return
        events = worker.read()
        if events is None:
            self._bury(team, rank, worker)
            return
        for event in events:
            if event["event"] == "rendezvous":
                self._meet(team, event)
            elif event["event"] == "ended":
                self._ended(team, rank, event)
                if event["last"]:  # this worker ends now; take none of its successors' runs
                    self._bury(team, rank, worker)
                    return
            else:
                self._on_event(event)

    def _meet(self, team: RankGroup, event: Event) -> None:
        """Call the other processes of a run to rank 0, which awaits them at a port."""
        if self._stopped:  # rank 0 waits for nobody any more
            return
        if self._place.listener is None:
            for rank in range(1, self._place.ranks):
                if rank not in team.workers:
                    self._start(team, rank)
        line = self._line(event["run_id"])
        team.meet({**line, "address": self._place.address, "port": event["port"]})

    def _ended(self, team: RankGroup, rank: int, event: Event) -> None:
        team.workers[rank].run_id = None
        if rank == 0:
            team.over()
            if event["outcome"] == "lost":
                team.parting = event
            else:
                self._end(event["run_id"], event)
        elif event["outcome"] == "done":
            team.trained()
        elif event["outcome"] == "lost":
            team.hurry()
        else:
            team.lost(rank, event["outcome"], event["message"])

    def _as_asked(self, event: Event) -> Event:
        """Who was asked to stop, and lost a process over it, was interrupted."""
        return event | {"outcome": "interrupted"} if self._stopped and event["outcome"] == "lost" else event

    def _bury(self, team: RankGroup, rank: int, worker: Worker) -> None:
        self._selector.unregister(worker.channel)
        del team.workers[rank]
        run_id = worker.run_id
        if run_id is not None:
            cause = worker.cause_of_death()
            if rank:
                team.lost(rank, "lost", cause)
            else:
                log = self._store.root / "logs" / f"{run_id}.log"
                outcome, where = "interrupted" if self._stopped else "error", str(log) if log.exists() else ""
                event = {"outcome": outcome, "message": cause, "log": where} | team.over()
                self._end(run_id, self._as_asked(event))
        worker.close()

    def _end(self, run_id: str, event: Event) -> None:
        outcome = event["outcome"]
        if outcome in ("done", "failed", "interrupted"):
            getattr(self.result, outcome).append(run_id)
        else:
            log = f" (log: {event['log']})" if event["log"] and outcome in ("error", "lost") else ""
            self.result.errors[run_id] = event["message"] + log
        if outcome not in NO_FAULT:
            with contextlib.suppress(SteppeError):  # the disk may be full
                self._store.run(run_id).record_error(outcome, event["message"], event["log"], self._job)
        self._on_event({**event, "event": "ended", "run_id": run_id})

    def _stop(self, *, kill: bool) -> None:
        self._stopped = True
        message = "killing" if kill else "saving at the next step; Ctrl-C kills"
        self._on_event({"event": "stopping", "message": message})
        for team in self._teams:
            team.stop(kill=kill)

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        workers = [worker for team in self._teams for worker in team.workers.values()]
        for worker in workers:
            if worker.run_id is not None:  # only after an exception in this process
                worker.signal(signal.SIGTERM)
            worker.release()
        for worker in workers:
            worker.close()
        self._selector.close()
