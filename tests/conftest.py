"""Settings of all tests: one torch thread, as sums depend on the number of threads.

No test mirrors runs to Weights & Biases unless it sets that itself, whatever the environment says. Tests that
need a service get a marker of its name from their folder, and run only with `-m`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

for name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[name]
os.environ["WANDB_MODE"] = "disabled"

ROOT = Path(__file__).parent
SERVICES = {
    "browser": ("browser",),
    "slurm": ("slurm", "testbed"),
    "wandb": ("suite/track", "suite/cli/test_wandb.py"),
}
"""Folders and files of the tests that need each service, or a slow fake of it."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with the service of its folder or file."""
    for item in items:
        place = item.path.relative_to(ROOT)
        for service, places in SERVICES.items():
            if any(place.is_relative_to(one) for one in places):
                item.add_marker(service)


def pytest_report_header() -> str:
    """Return a line that names the tests left out by default."""
    return 'tests marked slurm, browser, wandb or docs run by name, for example -m slurm; all of them: -m ""'
