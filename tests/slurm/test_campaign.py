"""Twenty random kills here; the log of two hundred is results/slurm-campaign.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.campaign import campaign
from tests.slurm.conftest import need

LOG = Path(__file__).resolve().parents[2] / "results" / "slurm-campaign.jsonl"
WHOLE: dict[str, list[str]] = {"lost": [], "duplicated": [], "differing": []}


def test_twenty_random_kills_cost_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    need()
    rows: list[dict[str, Any]] = []
    found = campaign(
        tmp_path_factory.mktemp("c"), kills=20, runs=12, seed=1, epochs=200, pause_s=0.7, log=rows.append
    )
    assert {key: found[key] for key in WHOLE} == WHOLE
    assert found["kills"] == 20
    assert found["attempts"] > found["runs"]  # the kills did strike


def test_the_log_of_the_long_campaign_says_that_nothing_was_lost() -> None:
    *events, summary = map(json.loads, LOG.read_text(encoding="utf-8").splitlines())
    assert {key: summary[key] for key in WHOLE} == WHOLE
    assert summary["kills"] >= 200
    assert summary["runs"] >= 60
    assert sum("n" in event for event in events) == summary["kills"]
