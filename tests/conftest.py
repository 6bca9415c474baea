"""One thread in every test: sums differ between thread counts, and small tensors are faster on one.

No test mirrors runs on Weights & Biases unless it asks for that, whatever the environment says. Tests that
take a service carry a marker of its name, by their place in the tree, and run where asked for (`-m`).
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
"""Places of the tests that need each service, or a long time with a fake of it."""


@pytest.hookimpl(tryfirst=True)  # before those without the marker are chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by the service of the folder or file that it lies in."""
    for item in items:
        place = item.path.relative_to(ROOT)
        for service, places in SERVICES.items():
            if any(place.is_relative_to(one) for one in places):
                item.add_marker(service)


def pytest_report_header() -> str:
    """Say which tests the default leaves out."""
    return 'tests marked slurm, browser, wandb or docs run by name, for example -m slurm; all of them: -m ""'
