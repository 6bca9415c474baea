"""What starting costs: neither `import suite` nor `steppe --help` loads a heavy package."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "wandb", "numpy", "scipy", "sklearn", "pyarrow", "rich")

PROBE = """
import json, sys
{statement}
print(json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""


def loaded_by(statement: str) -> list[str]:
    code = PROBE.format(statement=statement, heavy=HEAVY)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(answer.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize(
    "statement",
    [
        "import suite",
        "import suite.spec, suite.errors, suite.store.folders, suite.schedule",
        "import suite.entries.registry, suite.entries.select",
        "import suite.publishing.published",
        "from suite.cli import main; assert main(['--help']) == 0",
        "from suite.cli import main; assert main([]) == 0",
        "from suite.cli import main; assert main(['--version']) == 0",
        "from suite.cli import main; assert main(['plan', '--help']) == 0",
        "from suite.cli import main; assert main(['status', '--store', 'nowhere']) == 0",
    ],
)
def test_light_commands_load_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == []


def test_listing_tasks_and_measures_leaves_torch_alone() -> None:
    loaded = loaded_by(
        "from suite.cli import main\n"
        "assert main(['list', 'tasks']) == 0\n"
        "assert main(['list', 'measures']) == 0"
    )
    assert "torch" not in loaded


def test_plan_and_list_leave_torch_and_the_model_zoos_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # whether a GPU is of use, torch alone knows
    statement = (
        "from suite.cli import main\n"
        "assert main(['plan', '-t', 'digits-cnn', '-o', '*', '-o', 'nso[k=2]']) == 0\n"
        "assert main(['plan', '-t', 'digits-cnn', '-o', 'nso', '--view', 'sample-gradients']) == 0\n"
        "assert main(['list', 'optimizers', '*']) == 0"
    )
    loaded_by(statement)  # caches what the optimizers declare
    assert not set(HEAVY) - {"numpy"} & set(loaded_by(statement))
