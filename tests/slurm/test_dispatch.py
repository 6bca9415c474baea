"""Submitting, on a real cluster whose jobs are held: what is handed over, once, whatever comes between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from slurm import client, cluster, dispatch, executor, packing
from slurm.cluster import Cluster
from slurm.dispatch import Request
from slurm.profiles import Profile
from slurm.submission import Batch, Submission, SubmissionConfig, submissions
from suite.errors import SteppeError
from suite.spec import EntryRef, RunSpec
from suite.store.folders import Store
from tests.slurm.queue import cancel_all
from tests.suite.cli.conftest import finish
from tests.suite.fake_records import make_spec
from tests.testbed.cluster import Testbed

HELD = Profile(name="held", memory="100M", pack=2, extra={"hold": ""})
CONFIG = SubmissionConfig("steppe submit", HELD)
ROOT = Path(__file__).parents[2]


def specs(n: int, device: str = "cpu", epochs: float = 1.0) -> dict[str, RunSpec]:
    entry = EntryRef("tiny", "1", {})
    every = [
        RunSpec(entry, EntryRef("sgd", "1", {}), seed, "synthetic", "0" * 64, epochs, device=device)
        for seed in range(n)
    ]
    return {spec.run_id: spec for spec in every}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the specs of seven runs."""
    made = Store(tmp_path / "store")
    for run_id, spec in specs(7).items():
        made.run(run_id).write_spec(spec)
    return made


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "CHUNK", 2)


def send(
    store: Store, profile: Profile = HELD, n: int = 7, say: Callable[[str], None] = lambda _: None
) -> Submission | None:
    return submit(store, [*specs(n)], profile, say)


def submit(
    store: Store, run_ids: list[str], profile: Profile, say: Callable[[str], None] = lambda _: None
) -> Submission | None:
    request = Request(run_ids, replace(CONFIG, profile=profile))
    return dispatch.submit(store, request, dispatch.survey(profile), say)[1]


def queue(testbed: Testbed) -> list[str]:
    """The names of the jobs in the queue, one for each array task."""
    return testbed.ask("squeue", "--array", "--noheader", "--format=%j").split()


def queued_runs(testbed: Testbed, store: Store) -> Counter[str]:
    """How often each run is in the queue."""
    rows = testbed.ask("squeue", "--array", "--noheader", "--format=%j %K").splitlines()
    batches = {batch.job_name: batch for one in submissions(store.root) for batch in one.batches}
    tasks = [batches[name].packs[int(task)] for name, task in (row.split() for row in rows)]
    return Counter(run_id for pack in tasks for run_id in pack)


def once(n: int = 7) -> Counter[str]:
    return Counter(list(specs(n)))


def test_runs_are_handed_over_in_packs_and_one_call_a_batch(
    on_cluster: Testbed, store: Store, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(*command: str, timeout_s: float = 60) -> str:
        calls.append(command[0])
        return client.ask(*command, timeout_s=timeout_s)

    for module in (cluster, executor):
        monkeypatch.setattr(module, "ask", counted)
    submission = send(store)
    assert submission is not None
    assert queued_runs(on_cluster, store) == once()
    assert [len(batch.packs) for batch in submission.batches] == [2, 2]
    assert all(len(pack) <= 2 for batch in submission.batches for pack in batch.packs)
    assert Counter(calls) == {"scontrol": 1, "squeue": 1, "sinfo": 1, "sbatch": 2}
    assert submission.config == CONFIG
    script = (submission.batches[1].folder / executor.SCRIPT).read_text()
    assert f"--job-name={submission.batches[1].job_name}\n" in script


def test_what_is_in_the_queue_is_not_submitted_again(on_cluster: Testbed, store: Store) -> None:
    assert send(store, n=4) is not None
    assert send(store, n=7) is not None
    assert queued_runs(on_cluster, store) == once()
    assert send(store) is None
    assert len(submissions(store.root)) == 2


def test_what_is_done_is_not_submitted_again(on_cluster: Testbed, store: Store) -> None:
    done, *_ = specs(7).values()
    finish(store, done)
    assert send(store) is not None
    assert queued_runs(on_cluster, store) == once() - Counter([done.run_id])


def test_what_was_cancelled_is_submitted_again(on_cluster: Testbed, store: Store) -> None:
    send(store)
    cancel_all(on_cluster)
    assert send(store) is not None
    assert queued_runs(on_cluster, store) == once()


def test_inside_a_job_its_variables_are_not_taken_for_options(
    on_cluster: Testbed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "500")  # refused beside --mem
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    assert send(store) is not None
    assert set(on_cluster.ask("squeue", "--noheader", "--format=%P").split()) == {"low"}


def test_a_cap_holds_for_the_whole_submission(on_cluster: Testbed, store: Store, small_batches: None) -> None:
    submission = send(store, replace(HELD, max_running=1))
    assert submission is not None
    first, second = submission.batches
    assert "%1" in (first.folder / executor.SCRIPT).read_text()
    waits = on_cluster.ask("squeue", "--noheader", f"--jobs={second.job}", "--format=%E")
    assert f"afterany:{first.job}" in waits


# -- what the cluster cannot take --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (replace(HELD, partition="lo"), "unknown partition 'lo'; did you mean 'low'"),
        (replace(HELD, gpus=1, gpu_type="a100"), "of type a100"),
        (
            replace(HELD, constraint="infiniband"),
            "nothing was submitted: `sbatch` refused: .*Invalid feature",
        ),
    ],
)
def test_a_refusal_leaves_nothing(on_cluster: Testbed, store: Store, profile: Profile, words: str) -> None:
    with pytest.raises(SteppeError, match=words):
        send(store, profile)
    assert submissions(store.root) == []
    assert queue(on_cluster) == []


def test_runs_for_a_gpu_need_a_profile_with_one(on_cluster: Testbed, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    runs = specs(2, device="cuda")
    for run_id, spec in runs.items():
        store.run(run_id).write_spec(spec)
    with pytest.raises(SteppeError, match="2 of the runs are for a GPU and profile held asks for none"):
        submit(store, [*runs], HELD)
    assert submit(store, [*runs], replace(HELD, gpus=1)) is not None


def test_threads_beyond_the_cores_of_a_task_are_noted(on_cluster: Testbed, store: Store) -> None:
    said: list[str] = []
    profile = replace(HELD, workers=3)
    send(store, profile, say=said.append)
    assert said == [
        "3 runs side by side have 3 threads on a task's 1 CPUs: raise cpus in profile held, or lower workers"
    ]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A cluster whose second `sbatch` is refused, as when a limit is reached."""
    real, answers = executor.ask, iter([None, SteppeError("`sbatch` refused: job submit limit")])

    def ask(*command: str) -> str:
        answer = next(answers)
        if answer is not None:
            raise answer
        return real(*command)

    with monkeypatch.context() as patch:
        patch.setattr(executor, "ask", ask)
        yield patch


def test_a_refusal_half_way_is_said_and_the_same_call_goes_on(
    on_cluster: Testbed, store: Store, small_batches: None, refusing: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SteppeError) as caught:
        send(store)
    assert "only 4 of 7 runs were submitted, 1 of 2 job arrays: `sbatch` refused: job submit limit" in str(
        caught.value
    )
    assert "the same command submits the rest" in str(caught.value)
    (half,) = submissions(store.root)
    assert [batch.number for batch in half.batches] == [0]
    assert queued_runs(on_cluster, store).total() == 4
    refusing.undo()
    assert send(store) is not None
    assert queued_runs(on_cluster, store) == once()


def test_a_batch_of_which_slurm_said_nothing_is_kept_as_it_may_be_in_the_queue(
    on_cluster: Testbed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = executor.ask

    def accepted_but_silent(*command: str) -> str:
        real(*command)
        raise client.Silent("SLURM does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(executor, "ask", accepted_but_silent)
        with pytest.raises(SteppeError, match="SLURM does not answer"):
            send(store)
    assert send(store) is None  # found by its name
    assert queued_runs(on_cluster, store) == once()


# -- a submitter that is killed, and two at once -----------------------------------------------------

SUBMIT = """
import os, signal, sys
from pathlib import Path
from slurm import dispatch, packing
from slurm.submission import Batch
from suite.store.folders import Store
from tests.slurm import test_dispatch as t
packing.CHUNK = 2
create, set_job, n, when = dispatch.create, Batch.set_job, [], sys.argv[2]
def paused_create(*args):
    if when == "pause":
        print("paused", flush=True)
        sys.stdin.read()
    return create(*args)
def deadly_set_job(self, job):
    n.append(job)
    if when == f"before id {len(n)}":
        os.kill(os.getpid(), signal.SIGKILL)
    set_job(self, job)
    if when == f"after id {len(n)}":
        os.kill(os.getpid(), signal.SIGKILL)
dispatch.create, Batch.set_job = paused_create, deadly_set_job
t.send(Store(Path(sys.argv[1])), say=lambda text: print(text, flush=True))
"""


def submitter(store: Store, when: str = "") -> subprocess.Popen[str]:
    """A process that submits, and pauses or is killed at a place."""
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(store.root), when],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("when", ["before id 1", "after id 1", "before id 2"])
def test_after_a_kill_the_same_call_completes_without_submitting_twice(
    on_cluster: Testbed, store: Store, when: str
) -> None:
    with submitter(store, when) as process:
        assert process.wait(60) == -signal.SIGKILL
    before = queued_runs(on_cluster, store)
    assert before.total() == (7 if when == "before id 2" else 4)
    submission = send(store)
    assert (submission is None) == (when == "before id 2")
    assert queued_runs(on_cluster, store) == once()
    known = {batch.job for one in submissions(store.root) for batch in one.batches}
    listed = set(on_cluster.ask("squeue", "--noheader", "--format=%F").split())
    assert listed <= known  # the id that was not written down is, by now


def test_two_submitters_at_once_submit_each_run_once(on_cluster: Testbed, store: Store) -> None:
    with submitter(store, "pause") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "paused\n"  # it has looked at the queue, and submitted nothing yet
        with submitter(store) as second:
            assert second.stdout is not None
            assert "waiting" in second.stdout.readline()
            first.communicate(timeout=60)
            second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert queued_runs(on_cluster, store) == once()


# -- what is expected --------------------------------------------------------------------------------


def test_packs_follow_what_was_measured_and_the_order_of_the_seeds(on_cluster: Testbed, store: Store) -> None:
    # The finished run trained for 36 s an epoch, so that six epochs are expected to take 216 s and more.
    finish(store, next(iter(specs(1).values())))
    long, short = specs(1, epochs=6.0), specs(3)
    for run_id, spec in long.items():
        store.run(run_id).write_spec(spec)
    config = replace(CONFIG, profile=replace(HELD, pack=0, pack_min=2.0))
    plan = dispatch.plan(store, Request([*short, *long], config), dispatch.survey(HELD))
    assert plan.left_out == {"done": 1}
    assert plan.arrays[0].packs == (tuple(short)[1:], tuple(long))
    assert plan.packed is not None
    assert plan.packed.longest_s == pytest.approx(6 * 39 + 1)


@pytest.fixture
def no_queue(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that is never asked, and whose queue is empty."""
    monkeypatch.setattr(dispatch.scheduler, "look", lambda _: {})
    return Cluster("fake", 1001, 10_000, None, 0, 0, {})


def of_seeds(n: int, *optimizers: str) -> dict[str, RunSpec]:
    """Runs in the order of `expand`."""
    every = [make_spec(seed, name) for seed in range(n) for name in optimizers]
    return {spec.run_id: spec for spec in every}


def named(runs: dict[str, RunSpec], plan: dispatch.Plan) -> list[str]:
    """The runs of each task, in the order in which tasks start."""
    packs = [pack for array in plan.arrays for pack in array.packs]
    return [" ".join(f"{runs[r].optimizer.name}-{runs[r].seed}" for r in pack) for pack in packs]


def test_all_optimizers_of_a_seed_come_before_the_next_and_share_a_task(
    tmp_path: Path, no_queue: Cluster
) -> None:
    store, runs = Store(tmp_path / "store"), of_seeds(3, "sgd", "sam", "nso")
    costs = {run_id: {"sgd": 1, "sam": 2, "nso": 3}[spec.optimizer.name] for run_id, spec in runs.items()}

    def plan(pack: int) -> list[str]:
        request = Request([*runs], replace(CONFIG, profile=Profile("p", pack=pack)), runs, costs)
        return named(runs, dispatch.plan(store, request, no_queue))

    assert plan(3) == plan(5) == [f"nso-{seed} sam-{seed} sgd-{seed}" for seed in range(3)]
    assert plan(1) == [f"{name}-{seed}" for seed in range(3) for name in ("nso", "sam", "sgd")]


def test_runs_that_are_published_are_not_submitted(tmp_path: Path, no_queue: Cluster) -> None:
    store, runs = Store(tmp_path / "store"), of_seeds(2, "sgd", "sam")
    first, second, *rest = runs
    finish(store, runs[first])
    recorded = dict.fromkeys((first, second), "done in records") | {rest[0]: "failed in records"}
    plan = dispatch.plan(store, Request([*runs], CONFIG, runs, recorded=recorded), no_queue)
    assert plan.left_out == {"done": 1, "done in records": 1, "failed in records": 1}
    assert named(runs, plan) == ["sam-1"]


def test_a_dry_run_writes_nothing(on_cluster: Testbed, tmp_path: Path, small_batches: None) -> None:
    store, runs = Store(tmp_path / "store"), specs(7)
    profile = replace(HELD, max_running=1)
    request = Request([*runs], replace(CONFIG, profile=profile), runs)
    plan = dispatch.plan(store, request, dispatch.survey(profile))
    first, second = dispatch.scripts(plan, store.root)
    assert "--job-name=steppe-NAME.0" in first
    assert "--dependency=afterany:JOB_OF_0" in second
    assert not store.root.exists()
    assert queue(on_cluster) == []


def test_a_batch_knows_its_job(on_cluster: Testbed, store: Store) -> None:
    submission = send(store)
    assert submission is not None
    (batch,) = submission.batches
    assert Batch(batch.folder).job in on_cluster.ask("squeue", "--noheader", "--format=%F").split()
