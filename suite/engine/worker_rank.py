"""Entry point of ranks 1 to n - 1 of a run: they take the same steps as rank 0, and nothing else."""

from __future__ import annotations

from suite.engine.context import prepare
from suite.engine.steps import Steps
from suite.engine.torch_process_group import join
from suite.entries.stored_run import StoredRun


def run_worker_rank(run: StoredRun, *, rank: int, address: str, port: int) -> str:
    """Take the steps of a run until rank 0, at address and port, announces the end.

    Writes no file of the run. Raises RankLostError if rank 0 or another process is lost.
    """
    context = prepare(run)
    with join(rank, run.spec.ranks, run.spec.device, address, port) as ranks:
        steps = Steps(context, ranks)
        state = ranks.share()
        if state is not None:
            steps.load(state)
        steps.model.train()
        while ranks.agreed():
            steps.take()
    return "done"
