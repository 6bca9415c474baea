"""Jobs on the testbed for the tests: submitted, looked at, waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.testbed.cluster import Testbed

WAIT_S = 40
"""Far longer than anything here takes: a wait that is over tells of a fault and not of a busy machine."""


def submit(testbed: Testbed, folder: Path, script: str, *options: str) -> int:
    """Submit a batch script and return the job's id; its output goes to <id>.out in `folder`."""
    text = f"#!/bin/bash\n{script}\n"
    path = folder / f"job-{time.monotonic_ns()}.sh"
    path.write_text(text)
    place = (f"--chdir={folder}", f"--output={folder}/%j.out")
    return int(testbed.ask("sbatch", "--parsable", *place, *options, str(path)))


def states(testbed: Testbed) -> dict[str, str]:
    """The state of every job (of an array: of every task) that SLURM remembers."""
    rows = testbed.ask(
        "squeue", "--all", "--array", "--noheader", "--states=all", "--format=%i %T"
    ).splitlines()
    return dict(row.split() for row in rows)


def wait_until(true: Callable[[], object], what: str, limit_s: float = WAIT_S) -> None:
    """Wait until something holds."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"{what}: not so after {limit_s} s"
        time.sleep(0.1)


def wait_for(testbed: Testbed, job: int | str, *wanted: str) -> None:
    """Wait until the job is in one of the states."""
    wait_until(lambda: states(testbed).get(str(job)) in wanted, f"job {job} {' or '.join(wanted)}")


def detail(testbed: Testbed, job: int, key: str) -> str:
    """One field of `scontrol show job`."""
    fields = testbed.ask("scontrol", "-o", "show", "job", str(job)).split()
    return next(field.partition("=")[2] for field in fields if field.startswith(f"{key}="))


def lose(testbed: Testbed, node: str) -> None:
    """Let a node fail with all that runs on it, and SLURM notice it now instead of after 25 s."""
    testbed.kill(f"slurmd-{node}", with_jobs=True)
    testbed.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=lost by a test")


def cancel_all(testbed: Testbed) -> None:
    """Empty the queue and wait until no job runs."""
    if testbed.ask("squeue", "--noheader", "--format=%i"):
        testbed.ask("scancel", "--user=root", "--signal=KILL", "--full")
        testbed.ask("scancel", "--user=root")
        wait_until(lambda: not testbed.ask("squeue", "--noheader", "--format=%i"), "an empty queue")


def wait_noted(testbed: Testbed, job: int | str) -> None:
    """Wait until the controller has the job on its disk: killed before that, it would not know it again."""
    testbed.ask("scontrol", "update", f"jobid={job}", "comment=noted")
    wait_until(
        lambda: b"noted" in (testbed.folder / "state" / "job_state").read_bytes(), "the controller's note"
    )
