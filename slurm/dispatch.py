"""Submission of runs to the queue: no run is submitted twice, and no submission is left half-written.

All checks come first: cluster limits, one query of the queue, packing. Then the submission is written
atomically, and one `sbatch` submits each batch. If the submitter is killed in between, jobs are recognised by
their names, and repeating the command submits the rest. A lock on the store is held throughout.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slurm import cluster as clusters
from slurm import executor, packing
from slurm.client import Silent
from slurm.cluster import Cluster
from slurm.packing import ArrayJob, Packed, RunCost
from slurm.profiles import Profile
from slurm.submission import FOLDER, Batch, Submission, SubmissionConfig, create, exclusive
from suite.errors import SteppeError
from suite.records.schema import Record
from suite.spec import RunSpec
from suite.status import scheduler
from suite.status.forecast import Finished, Forecast
from suite.store.folders import Store
from suite.terminal.table import plural

QUEUED = "in the queue"


@dataclass(frozen=True)
class Request:
    """Runs to submit, and what is already known about them."""

    run_ids: Sequence[str]
    """Distinct run ids in the order of their start."""
    config: SubmissionConfig
    specs: Mapping[str, RunSpec] = field(default_factory=dict)
    """Specs by run id. `submit` writes these to the store; missing ones are read from it."""
    gradients: Mapping[str, int] = field(default_factory=dict)
    """Known costs in sample-gradients by run id; they affect only the order."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """Status by run id of the runs in published records."""


@dataclass(frozen=True)
class Plan:
    """The job arrays to submit, and the requested runs that are left out."""

    config: SubmissionConfig
    arrays: tuple[ArrayJob, ...] = ()
    packed: Packed | None = None
    """None if nothing is left to submit."""
    needless: Mapping[str, str] = field(default_factory=dict)
    """The reason by run id for each run that needs no submission: done, running, in the queue, ..."""
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> Counter[str]:
        """Number of runs left out, by reason."""
        return Counter(self.needless.values())

    @property
    def n_runs(self) -> int:
        """Number of runs to submit."""
        return sum(len(pack) for array in self.arrays for pack in array.packs)

    @property
    def n_tasks(self) -> int:
        """Number of array tasks that hold them."""
        return sum(len(array.packs) for array in self.arrays)

    @property
    def size(self) -> str:
        """Numbers of runs and tasks, in words."""
        runs, tasks = self.n_runs, self.n_tasks
        return f"{runs} {plural(runs, 'run')} in {tasks} {plural(tasks, 'task')}"


def survey(profile: Profile) -> Cluster:
    """Query the cluster; raise SteppeError if it cannot satisfy the profile."""
    clusters.require()
    cluster = clusters.look(profile)
    clusters.check(profile, cluster)
    return cluster


def plan(store: Store, request: Request, cluster: Cluster) -> Plan:
    """Pack the runs that need submission; writes nothing. `cluster` comes from `survey`."""
    config, profile = request.config, request.config.profile
    records = store.index()
    needless = _needless(store, request, records)
    todo = [run_id for run_id in request.run_ids if run_id not in needless]
    if not todo:
        return Plan(config, needless=needless)
    specs = {run_id: request.specs.get(run_id) or store.run(run_id).spec() for run_id in todo}
    notes = _fitting(specs.values(), profile)
    packed = packing.pack(_run_costs(store, specs, request.gradients, records), profile, *cluster.room)
    arrays = packing.batches(packed.packs, cluster.max_array_size, profile.max_running)
    return Plan(config, tuple(arrays), packed, needless, (*packed.notes, *notes))


def _needless(store: Store, request: Request, records: Sequence[Record]) -> dict[str, str]:
    """Return the reason by run id for each run that needs no submission."""
    placed = scheduler.look(store.root) or {}
    ended = {**request.recorded, **{one.run_id: "failed" if one.failed else "done" for one in records}}
    stored = set(store.run_ids())
    needless = {}
    for run_id in request.run_ids:
        state = ended.get(run_id) or (store.run(run_id).status() if run_id in stored else "queued")
        if run_id in ended or state in ("done", "failed", "running"):
            needless[run_id] = state
        elif run_id in placed and placed[run_id].state in ("pending", "running"):
            needless[run_id] = QUEUED
    return needless


def _fitting(specs: Collection[RunSpec], profile: Profile) -> list[str]:
    """Raise SteppeError if runs need resources that the profile lacks; return warnings."""
    cuda = sum(spec.device == "cuda" for spec in specs)
    if cuda and not profile.gpus:
        raise SteppeError(
            f"{cuda} of the runs are for a GPU and profile {profile.name} asks for none: "
            f"choose another profile, or --device cpu"
        )
    ranks = sorted({spec.ranks for spec in specs} - {profile.ranks})
    if ranks:
        raise SteppeError(
            f"profile {profile.name} gives each run {profile.ranks} ranks (nodes x processes), and some "
            f"of the runs are for {ranks[0]}: choose another profile"
        )
    cores = profile.side_by_side * max(spec.threads for spec in specs)
    if cores > profile.cpus:
        return [
            f"{profile.side_by_side} runs side by side have {cores} threads on a task's {profile.cpus} CPUs: "
            f"raise cpus in profile {profile.name}, or lower workers"
        ]
    return []


def _run_costs(
    store: Store, specs: Mapping[str, RunSpec], gradients: Mapping[str, int], records: Sequence[Record]
) -> list[RunCost]:
    """Forecast the seconds of each run from records of similar runs, once for all seeds of a setting."""
    names = {spec.task.name for spec in specs.values()}
    finished = Finished(store)
    measured = (finished(record) for record in records if record.spec.task.name in names)
    forecast = Forecast(run for run in measured if run is not None)
    counted = all(run_id in gradients for run_id in specs)
    expected: dict[tuple[object, ...], float | None] = {}
    costs = []
    for run_id, spec in specs.items():
        machine = spec.data, spec.precision, spec.device, spec.threads, spec.compile, spec.ranks
        key = id(spec.task), id(spec.optimizer), spec.epochs, *machine
        if key not in expected:
            guess = forecast.seconds(spec, gradients.get(run_id))
            expected[key] = None if guess is None else guess.seconds
        cost = gradients[run_id] if counted else spec.epochs
        block = f"{spec.task.name} {sorted(spec.task.params.items())} {spec.data} {spec.seed}"
        costs.append(RunCost(run_id, cost, expected[key], block))
    return costs


def scripts(planned: Plan, root: Path) -> list[str]:
    """Return the script of each batch, with placeholders for names that do not exist yet."""
    folder, jobs = root / FOLDER / "NAME", [f"JOB_OF_{number}" for number in range(len(planned.arrays))]
    return [
        _script(Batch(folder / str(number)), planned, array, jobs)
        for number, array in enumerate(planned.arrays)
    ]


def _script(batch: Batch, planned: Plan, array: ArrayJob, jobs: Sequence[str]) -> str:
    after = None if array.after is None else jobs[array.after]
    return executor.script(batch, planned.config.profile, len(array.packs), array.at_a_time, after)


def submit(
    store: Store, request: Request, cluster: Cluster, say: Callable[[str], None]
) -> tuple[Plan, Submission | None]:
    """Submit the runs that are neither done nor running nor queued; return None as submission if none is.

    Specs are written after all checks have passed, including those of queued runs: a spec that was edited
    after its submission is thereby restored before a worker refuses it.

    Raises SteppeError if the cluster refuses a batch; batches submitted before stay in the queue, and the
    message counts them.
    """
    with exclusive(store.root, say):
        planned = plan(store, request, cluster)
        for note in planned.notes:
            say(note)
        scripts(planned, store.root)  # raises the executor's errors before anything is written
        for run_id, spec in request.specs.items():
            if planned.needless.get(run_id, QUEUED) == QUEUED:
                store.run(run_id).write_spec(spec)
        if not planned.arrays:
            return planned, None
        submission = create(store.root, request.config, [array.packs for array in planned.arrays])
        _hand_over(submission, planned)
        return planned, submission


def _hand_over(submission: Submission, planned: Plan) -> None:
    jobs: list[str] = []
    batches = submission.batches
    for batch, array in zip(batches, planned.arrays, strict=True):
        try:
            jobs.append(executor.submit(batch, _script(batch, planned, array, jobs)))
            batch.set_job(jobs[-1])
        except SteppeError as error:
            # A batch without an answer may still turn up in the queue: its packs are kept.
            unsent = batches[len(jobs) + isinstance(error, Silent) :]
            raise _stopped(submission, len(jobs), unsent, error) from error


def _stopped(submission: Submission, n_sent: int, unsent: Sequence[Batch], error: SteppeError) -> SteppeError:
    """Delete the batches that the cluster does not have; return the error with the counts."""
    batches = submission.batches
    if len(unsent) == len(batches):
        shutil.rmtree(submission.folder, ignore_errors=True)
        return SteppeError(f"nothing was submitted: {error}")
    sent, wanted = _count(batches[:n_sent]), _count(batches)
    for batch in unsent:
        shutil.rmtree(batch.folder, ignore_errors=True)
    return SteppeError(
        f"only {sent} of {wanted} runs were submitted, {n_sent} of {len(batches)} job arrays: {error}. "
        f"What is in the queue stays there; the same command submits the rest"
    )


def _count(batches: Sequence[Batch]) -> int:
    return sum(len(pack) for batch in batches for pack in batch.packs)
