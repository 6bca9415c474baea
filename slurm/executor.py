"""A submitit executor for job arrays whose tasks read what they do from a batch folder: nothing is pickled.

submitit writes the script (options, log paths, `srun`) and defines what a job is; what its tasks execute and
how `sbatch` is called are ours: one call a batch, in a clean environment, never throttled.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import submitit
from submitit.core.core import Job
from submitit.core.utils import FailedSubmissionError

from slurm.client import Silent, ask
from slurm.profiles import Profile
from slurm.submission import Batch
from suite.code_hash import ROOT
from suite.errors import SteppeError
from suite.files import write_whole

SCRIPT = "submission.sh"


class ArrayExecutor(submitit.SlurmExecutor):
    """Submits one batch as one job array, a pack a task."""

    def __init__(self, batch: Batch, profile: Profile) -> None:
        if "%" in str(batch.folder):
            raise SteppeError(
                f"{batch.folder}: SLURM would replace what follows % in a log's path; choose another --store"
            )
        super().__init__(batch.folder, python=profile.python or shlex.quote(sys.executable))
        self._batch = batch
        self.update_parameters(**_parameters(batch, profile))

    @classmethod
    def affinity(cls) -> int:
        """Accept any machine: a dry run needs no `srun`, and `sbatch` is asked for elsewhere."""
        return 2

    @property
    def _submitit_command_str(self) -> str:
        # -P: the folder in which somebody submits may hold a `slurm` or `suite` of its own.
        return f"{self.python} -u -P -m slurm.worker {shlex.quote(str(self.folder))}"

    def script(self, n_tasks: int, at_a_time: int, after: str | None) -> str:
        """Return the text that `sbatch` gets; `after` is the job that must be over first."""
        self.parameters |= {"map_count": n_tasks, "array_parallelism": at_a_time}
        if after is not None:
            self.parameters["dependency"] = f"afterany:{after}"
        return self._make_submission_file_text(self._submitit_command_str, uid="")

    def submit_batch(self, at_a_time: int, after: str | None) -> Job[Any]:
        """Hand the batch over to the cluster and return its job.

        Raises SteppeError where the cluster refuses it, `Silent` where that is not known.
        """
        write_whole(
            self.folder / SCRIPT, self.script(len(self._batch.packs), at_a_time, after).encode(), flush=False
        )
        answer = ask(*self._make_submission_command(self.folder / SCRIPT))
        try:
            job_id = self._get_job_id_from_submission_command(answer)
        except FailedSubmissionError:
            # It did not refuse, so there is a job, which its name will tell.
            raise Silent(f"`sbatch` gave no job id but {answer.strip()!r}") from None
        return submitit.SlurmJob(folder=self.folder, job_id=job_id)


def _parameters(batch: Batch, profile: Profile) -> dict[str, Any]:
    """Translate a profile into submitit's words."""
    extra: dict[str, str | bool] = {key: value or True for key, value in profile.extra.items()}
    gpus = f"gpu:{profile.gpu_type}:{profile.gpus}" if profile.gpu_type else f"gpu:{profile.gpus}"
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
        "setup": [*profile.setup, _path_line()],
        "additional_parameters": {"requeue": True, "signal": f"USR2@{profile.signal_s}", **extra},
    }


def _path_line() -> str:
    """Put this Steppe before whatever the set-up lines made of PYTHONPATH."""
    return f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+{os.pathsep}$PYTHONPATH}}"
