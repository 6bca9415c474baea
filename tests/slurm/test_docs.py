"""The page about clusters is executed on one."""

from __future__ import annotations

from pathlib import Path

from tests.docs.markdown import ROOT
from tests.docs.transcript import Desk
from tests.testbed.cluster import Testbed


def test_the_page_about_clusters(calm: Testbed, tmp_path: Path) -> None:
    with Desk(tmp_path, {"SLURM_CONF": str(calm.slurm_conf)}) as desk:
        desk.follow(ROOT / "docs" / "slurm.md")
