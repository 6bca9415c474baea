"""Run the examples in the docstrings of the suite, tasks, baselines and dispatchers."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("suite", "tasks", "baselines", "slurm")


def modules_with_examples() -> list[str]:
    """Return the dotted names of the modules whose source contains an example."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("[!.]*.py"))
    found = (path.relative_to(ROOT) for path in paths if ">>> " in path.read_text(encoding="utf-8"))
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in found)


def run_examples(module: ModuleType) -> tuple[int, str]:
    """Run the examples in the docstrings of a module; return their number and the report of failures."""
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder().find(module):
        runner.run(test, out=report.append)
    return runner.tries, "".join(report)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_what_they_show(name: str) -> None:
    tries, report = run_examples(importlib.import_module(name))
    assert tries > 0, f"{name} has no example in the docstring of a module, class or function"
    assert not report, report


def test_the_modules_with_formulas_have_examples() -> None:
    assert {"suite.schedule", "suite.process_group", "suite.space"} <= set(modules_with_examples())


@pytest.mark.parametrize(
    ("example", "fails"),
    [
        (">>> 1 + 1\n2", False),
        (">>> 1 + 1\n3", True),
        (">>> 1 / 0\n2", True),
    ],
)
def test_a_broken_example_fails(example: str, fails: bool) -> None:
    module = ModuleType("made_up", f"Adds.\n\n{example}\n")
    tries, report = run_examples(module)
    assert tries == 1
    assert bool(report) == fails
