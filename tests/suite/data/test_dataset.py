from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from suite.data.choose import choose_data
from suite.errors import SteppeError
from tests.suite.data.fakes import fake_dataset, fake_task

FIRST, SECOND = fake_dataset("genuine"), fake_dataset("copy")
AWAY = fake_dataset("genuine", there=False)


def test_the_first_available_data_set_is_used() -> None:
    assert choose_data(fake_task(FIRST, data=(FIRST, SECOND)), None) is FIRST
    assert choose_data(fake_task(FIRST, data=(AWAY, SECOND)), None) is SECOND


def test_a_named_data_set_is_used_though_another_comes_first() -> None:
    assert choose_data(fake_task(FIRST, data=(FIRST, SECOND)), None, "copy") is SECOND


def test_an_unknown_data_set_is_one_clear_line() -> None:
    with pytest.raises(SteppeError, match=r"did you mean 'genuine'.*copy, genuine"):
        choose_data(fake_task(FIRST, data=(FIRST, SECOND)), None, "genuin")


@pytest.mark.parametrize("root", [None, Path("somewhere")])
def test_missing_data_names_the_command_that_mends_it(root: Path | None) -> None:
    with pytest.raises(SteppeError) as raised:
        choose_data(fake_task(AWAY), root)
    text = str(raised.value)
    assert "steppe prepare fake-task" in text
    assert "STEPPE_DATA" in text
    assert "genuine" in text
    assert "\n" not in text


def test_a_named_data_set_that_is_missing_is_not_replaced_by_another() -> None:
    with pytest.raises(SteppeError, match="data set genuine not found"):
        choose_data(fake_task(AWAY, data=(AWAY, SECOND)), None, "genuine")


def test_listing_and_choosing_load_no_heavy_package() -> None:
    code = """
import sys
from suite.data.choose import choose_data
from suite.entries.registry import Registry
registry = Registry()
for name in registry.tasks:
    registry.resolve_task(registry.reference("task", name, {}))
choose_data(registry.resolve_task(registry.reference("task", "digits-cnn", {})), None)
heavy = {"torch", "torchvision", "timm", "sklearn", "pyarrow", "PIL"} & set(sys.modules)
sys.exit(f"loaded {sorted(heavy)}" if heavy else 0)
"""
    repository = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
