"""Bitwise comparison of two checkouts of the suite: each runs a battery of training runs.

The battery is a module of the checkout, `tests.engine.battery`, so that each commit has one that fits its
code. It writes {"runs": {run: {part: digest}}} as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from suite.errors import SteppeError

BATTERY = "tests.engine.battery"

_SINGLE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SAME, _DIFFERS, _THERE, _HERE = "same", "DIFFERS", "only there", "only here"

Digests = Mapping[str, Mapping[str, str]]
"""Report of a battery: digests by run and part of the run (weights, metrics, a measure)."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of two reports."""

    table: tuple[str, ...]
    """Lines of text: one row per run, one column per digest."""
    n_same: int
    """Number of equal digests."""
    differing: tuple[str, ...]
    """Runs with a digest that differs."""
    one_sided: tuple[str, ...]
    """Runs with a digest in only one report."""


def compare(there: Digests, here: Digests) -> Comparison:
    """Compare the reports of two batteries, run by run and digest by digest."""
    runs = dict.fromkeys([*here, *there])
    parts = dict.fromkeys(part for report in (here, there) for run in report.values() for part in run)
    words = {run: [_word(there.get(run, {}).get(p), here.get(run, {}).get(p)) for p in parts] for run in runs}
    rows = [["run", *parts], *([run, *found] for run, found in words.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return Comparison(
        tuple(line.rstrip() for line in table),
        sum(found.count(_SAME) for found in words.values()),
        tuple(run for run, found in words.items() if _DIFFERS in found),
        tuple(run for run, found in words.items() if _THERE in found or _HERE in found),
    )


def _word(there: str | None, here: str | None) -> str:
    if there is None and here is None:
        return "-"
    if there is None or here is None:
        return _THERE if here is None else _HERE
    return _SAME if there == here else _DIFFERS


def battery(place: Path, name: str) -> Digests:
    """Run the battery of a checkout and return its report."""
    print(f"running {BATTERY} of {name} in {place}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="steppe-battery-") as folder:
        report = Path(folder) / "report.json"
        done = run_module(place, BATTERY, "--json", str(report))
        if done.returncode != 0 or not report.is_file():
            reason = " / ".join(done.stderr.strip().splitlines()[-3:])
            raise SteppeError(f"the battery of {name} failed: {reason}")
        runs: Digests = json.loads(report.read_bytes())["runs"]
        return runs


def run_module(place: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of a checkout in a subprocess, on one thread."""
    environment = {**os.environ, **dict.fromkeys(_SINGLE, "1"), "PYTHONPATH": str(place)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@contextmanager
def checkout(commit: str, root: Path) -> Iterator[Path]:
    """Check out a commit into a temporary folder, which is removed after the block."""
    with tempfile.TemporaryDirectory(prefix="steppe-same-as-") as folder:
        place = Path(folder).resolve() / "checkout"
        _git(root, "worktree", "add", "--detach", str(place), commit)
        try:
            yield place
        finally:
            _git(root, "worktree", "remove", "--force", str(place))


def _git(root: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SteppeError(f"git cannot be run ({error.strerror}): --same-as needs git and a clone") from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        raise SteppeError(
            f"git {arguments[0]} {arguments[1]} failed: {reason}; --same-as needs a commit of a clone"
        )
