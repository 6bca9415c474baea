"""The same sweep on the cluster and here: the same bytes, the same leaderboard."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from suite.cli import main
from suite.store.folders import Store
from tests.slurm.fates import fate
from tests.slurm.sweeps import Sweep

SELECTORS = ("-t", "digits-cnn", "-o", "*", "-s", "0-2", "--budget", "0.1", "--device", "cpu")


def test_cluster_and_here_give_the_same_leaderboard(sweep: Sweep, tmp_path: Path) -> None:
    sweep.selectors = SELECTORS
    sweep.submit(pack=6, memory="2G")
    here = tmp_path / "here"
    assert main(["run", *SELECTORS, "--store", str(here), "--wandb", "off"]) == 0
    sweep.wait_idle()
    wanted = {run_id: fate(Store(here).run(run_id)) for run_id in Store(here).run_ids()}
    assert len(wanted) == 18
    sweep.check(wanted)
    assert leaderboard(sweep, sweep.store) == leaderboard(sweep, here)


def leaderboard(sweep: Sweep, store: Path) -> list[dict[str, str]]:
    """All of it but what was timed."""
    sweep.capsys.readouterr()
    assert main(["leaderboard", "--store", str(store), "--format", "csv"]) == 0
    rows = csv.DictReader(io.StringIO(sweep.capsys.readouterr().out))
    return [{key: cell for key, cell in row.items() if "_s" not in key} for row in rows]
