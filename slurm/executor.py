"""Job arrays through submitit: it writes the script (options, log paths, `srun`), and nothing is pickled.

What its public interface submits are pickled functions. The tasks of an array read what they do from a batch
folder instead, so only the function that writes scripts is taken from submitit, which is private to it:
tests/slurm/test_executor.py holds what is expected of it. `sbatch` is called here: once a batch.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import Any

from submitit.slurm.slurm import _make_sbatch_string

from slurm.client import Silent, ask
from slurm.profiles import Profile
from slurm.submission import Batch
from suite.code_hash import ROOT
from suite.errors import SteppeError
from suite.files import write_whole

SCRIPT = "submission.sh"


def script(batch: Batch, profile: Profile, n_tasks: int, at_a_time: int, after: str | None) -> str:
    """Return the text that `sbatch` gets; `after` is the job that must be over first."""
    if "%" in str(batch.folder):
        raise SteppeError(
            f"{batch.folder}: SLURM would replace what follows % in a log's path; choose another --store"
        )
    python = profile.python or shlex.quote(sys.executable)
    return _make_sbatch_string(
        # -P: the folder in which somebody submits may hold a `slurm` or `suite` of its own.
        command=f"{python} -u -P -m slurm.worker {shlex.quote(str(batch.folder))}",
        folder=batch.folder,
        map_count=n_tasks,
        array_parallelism=at_a_time,
        dependency=f"afterany:{after}" if after else None,
        **options(batch, profile),
    )


def options(batch: Batch, profile: Profile) -> dict[str, Any]:
    """Translate a profile into submitit's words."""
    gpus = f"gpu:{profile.gpu_type}:{profile.gpus}" if profile.gpu_type else f"gpu:{profile.gpus}"
    extra = {key: True if value == "" else value for key, value in profile.extra.items()}
    return {
        "job_name": batch.job_name,
        "partition": profile.partition or None,
        "account": profile.account or None,
        "qos": profile.qos or None,
        "constraint": profile.constraint or None,
        "gres": gpus if profile.gpus else None,
        "nodes": profile.nodes,
        "ntasks_per_node": profile.processes,
        "cpus_per_task": profile.cpus,
        "mem": profile.memory or None,
        "time": profile.time_min,
        "wckey": None,  # submitit's own would be refused where such keys are controlled
        "stderr_to_stdout": True,
        # Newer versions of srun do not take the number of CPUs from the job. One process that fails ends the
        # task, as the others could only wait for it.
        "srun_args": [
            f"--cpus-per-task={profile.cpus}",
            *(["--kill-on-bad-exit=1"] if profile.ranks > 1 else []),
        ],
        # This Steppe comes before whatever the set-up lines made of PYTHONPATH.
        "setup": [
            *profile.setup,
            f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+{os.pathsep}$PYTHONPATH}}",
        ],
        "additional_parameters": {"requeue": True, "signal": f"USR2@{profile.signal_s}", **extra},
    }


def submit(batch: Batch, text: str) -> str:
    """Hand a batch over to the cluster with this script and return the job's id.

    Raises SteppeError where the cluster refuses it, `Silent` where that is not known.
    """
    path = batch.folder / SCRIPT
    write_whole(path, text.encode(), flush=False)
    answer = ask("sbatch", str(path))
    job = re.search(r"job (\d+)", answer)
    if job is None:  # it did not refuse, so there is a job, which its name will tell
        raise Silent(f"`sbatch` gave no job id but {answer.strip()!r}")
    return job[1]
