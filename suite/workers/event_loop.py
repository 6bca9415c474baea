"""The event loop of a pool: starts runs, forwards the workers' events, and records how each run ended."""

from __future__ import annotations

import contextlib
import selectors
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from suite.errors import SteppeError
from suite.spec import RunSpec
from suite.store.folders import Store
from suite.workers.network import Place, accept, gloo_interface
from suite.workers.process import Event, Process, Worker, environment, visible_gpus
from suite.workers.rank_group import RankGroup
from suite.workers.serve import NO_FAULT, outcome_of

_POLL_S = 0.2


@dataclass
class PoolResult:
    """Outcomes of the runs, by id."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Runs that diverged; they have records."""
    interrupted: list[str] = field(default_factory=list)
    """Runs that a stop request ended or kept from starting."""
    errors: dict[str, str] = field(default_factory=dict)
    """Other runs without a record, each with a reason of one line."""


class EventLoop:
    """Event loop of one call of `run_pool`."""

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
        self._network = gloo_interface(place.address) if place.ranks > 1 else {}
        self._groups: list[RankGroup] = []
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        if place.listener is not None:
            self._selector.register(place.listener, selectors.EVENT_READ, None)

    def serve(self, n_workers: int, n_requests: Callable[[], int]) -> None:
        """Start runs and forward events until no run is left."""
        self._groups = [RankGroup() for _ in range(min(n_workers, len(self._queue)))]
        handled = 0
        while True:
            if handled < min(n_requests(), 2):
                handled += 1
                self._stop(kill=handled == 2)
            if not self._stopped:
                self._start_runs()
            if not any(group.busy for group in self._groups):
                break
            for key, _ in self._selector.select(_POLL_S):
                if key.data is None:
                    self._accept()
                else:
                    self._read(*key.data)
            for group in self._groups:
                group.kill_stuck()
                if (event := group.take_deferred_end()) is not None:
                    self._end(event["run_id"], event)
        self.result.interrupted.extend(self._queue)

    def _start_runs(self) -> None:
        for group in self._groups:
            while self._queue and not group.busy:
                run_id = self._queue.popleft()
                try:
                    spec = self._store.run(run_id).spec()
                    self._check_ranks(spec)
                except SteppeError as error:
                    self._end(run_id, {"outcome": outcome_of(error), "message": str(error), "log": ""})
                    continue
                if 0 not in group.workers:
                    self._start_worker(group, 0)
                names = {"task": spec.task.name, "optimizer": spec.optimizer.name, "seed": spec.seed}
                self._on_event({"event": "started", "run_id": run_id, **names})
                group.start(run_id, self._message(run_id))

    def _message(self, run_id: str) -> Event:
        return {"store": str(self._store.root.resolve()), "run_id": run_id}

    def _check_ranks(self, spec: RunSpec) -> None:
        if spec.ranks != self._place.ranks:
            raise SteppeError(
                f"the run is for {spec.ranks} ranks and here are {self._place.ranks}: run it with --ranks "
                f"{spec.ranks}, or submit it with a profile of as many processes"
            )

    def _start_worker(self, group: RankGroup, rank: int) -> None:
        slot = self._groups.index(group) * self._place.ranks + rank
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        self._add(group, rank, Process(self._command, environment(gpu, self._network)))

    def _add(self, group: RankGroup, rank: int, worker: Worker) -> None:
        group.workers[rank] = worker
        self._selector.register(worker.channel, selectors.EVENT_READ, (group, rank, worker))

    def _accept(self) -> None:
        """Accept a remote worker, which sends its rank first; it replaces an older worker of that rank."""
        assert self._place.listener is not None
        accepted = accept(self._place.listener, self._place.key)
        if accepted is None:
            return
        worker, rank = accepted
        if not 0 < rank < self._place.ranks:
            worker.close()
            return
        group = self._groups[0]
        if (old := group.workers.get(rank)) is not None:
            self._remove(group, rank, old)
        self._add(group, rank, worker)
        group.join(rank)

    def _read(self, group: RankGroup, rank: int, worker: Worker) -> None:
        """Handle the events of a worker."""
        if group.workers.get(rank) is not worker:  # removed since `select` returned
            return
        events = worker.read()
        if events is None:
            self._remove(group, rank, worker)
            return
        for event in events:
            if event["event"] == "rendezvous":
                self._rendezvous(group, event)
            elif event["event"] == "ended":
                self._worker_ended(group, rank, event)
                if event["last"]:  # this worker exits now: give it no further run
                    self._remove(group, rank, worker)
                    return
            else:
                self._on_event(event)

    def _rendezvous(self, group: RankGroup, event: Event) -> None:
        """Connect the other ranks of a run to rank 0, which listens at a port."""
        if self._stopped:  # rank 0 stops, too
            return
        if self._place.listener is None:
            for rank in range(1, self._place.ranks):
                if rank not in group.workers:
                    self._start_worker(group, rank)
        address = {"address": self._place.address, "port": event["port"]}
        group.rendezvous(self._message(event["run_id"]) | address)

    def _worker_ended(self, group: RankGroup, rank: int, event: Event) -> None:
        group.workers[rank].run_id = None
        if rank == 0:
            group.coordinator_ended()
            if event["outcome"] == "lost":
                group.deferred_end = event
            else:
                self._end(event["run_id"], event)
        elif event["outcome"] == "done":
            group.training_ended()
        elif event["outcome"] == "lost":
            group.give_up()
        else:
            group.rank_lost(rank, event["outcome"], event["message"])

    def _remove(self, group: RankGroup, rank: int, worker: Worker) -> None:
        """Remove a worker that has ended; the run that it executed fails."""
        self._selector.unregister(worker.channel)
        del group.workers[rank]
        run_id = worker.run_id
        if run_id is not None:
            cause = worker.cause_of_death()
            if rank:
                group.rank_lost(rank, "lost", cause)
            else:
                path = self._store.root / "logs" / f"{run_id}.log"
                outcome, log = "interrupted" if self._stopped else "error", str(path) if path.exists() else ""
                event = {"outcome": outcome, "message": cause, "log": log} | group.coordinator_ended()
                self._end(run_id, event)
        worker.close()

    def _end(self, run_id: str, event: Event) -> None:
        """Record and report the end of a run."""
        outcome = event["outcome"]
        if outcome == "lost" and self._stopped:  # the stop request, not a fault, ended the other rank
            outcome = "interrupted"
        if outcome in ("done", "failed", "interrupted"):
            getattr(self.result, outcome).append(run_id)
        else:
            log = f" (log: {event['log']})" if event["log"] and outcome in ("error", "lost") else ""
            self.result.errors[run_id] = event["message"] + log
        if outcome not in NO_FAULT:
            with contextlib.suppress(SteppeError):  # the disk may be full
                self._store.run(run_id).record_error(outcome, event["message"], event["log"], self._job)
        self._on_event({**event, "outcome": outcome, "event": "ended", "run_id": run_id})

    def _stop(self, *, kill: bool) -> None:
        self._stopped = True
        message = "killing" if kill else "saving at the next step; Ctrl-C kills"
        self._on_event({"event": "stopping", "message": message})
        for group in self._groups:
            group.stop(kill=kill)

    def close(self) -> None:
        """End all workers."""
        workers = [worker for group in self._groups for worker in group.workers.values()]
        for worker in workers:
            if worker.run_id is not None:  # only after an exception in this process
                worker.signal(signal.SIGTERM)
            worker.release()
        for worker in workers:
            worker.close()
        self._selector.close()
