"""Tests of the public functions and classes of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import suite
from tests.docs.markdown import ROOT


@pytest.mark.parametrize("name", suite.PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(suite, name)
    assert found.__name__ == name
    assert found.__module__ == suite.PUBLIC[name]
    assert found.__doc__


@pytest.mark.parametrize("name", suite.PUBLIC)
def test_the_page_of_the_library_tells_of_it(name: str) -> None:
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page or f"suite.{name}(" in page


def test_another_name_is_an_error_that_lists_the_public_ones() -> None:
    with pytest.raises(
        AttributeError, match=r"no attribute 'leaderbord'; public are Registry, .*leaderboard"
    ):
        suite.leaderbord  # noqa: B018


def test_importing_it_loads_nothing_of_it() -> None:
    code = "import sys, suite; print([m for m in sys.modules if m.startswith('suite.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
