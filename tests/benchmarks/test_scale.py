"""How the index and the leaderboard grow with the store, from 100 records to 100,000.

STEPPE_SCALE=100000 pytest tests/benchmarks/test_scale.py --benchmark-enable -n0

The promise is a list of 10,000 records in 1 s, which `status`, `plan` and every table wait for, and a
leaderboard from 100,000 records in 6 s and 500 MB, Python's start included.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suite.store import index
from suite.store.folders import Store
from tests.suite.fake_store import make

SIZES = [n for n in (100, 1000, 10_000, 100_000) if n <= int(os.environ.get("STEPPE_SCALE", "100"))]
"""Up to what STEPPE_SCALE names; the ordinary test run only tries the code out."""

COLUMNS = ("list_cold_s", "list_s", "index_mb", "append_ms", "leaderboard_md_s", "leaderboard_csv_s",
           "leaderboard_cpu_s", "leaderboard_mb", "publish_s", "publish_mb")  # fmt: skip

_CHILD = """
import contextlib, io, json, resource, sys
from suite.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
with open("/proc/self/status") as status:  # ru_maxrss begins with what the parent had before the exec
    peak_mb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
print(json.dumps([code, used.ru_utime + used.ru_stime, peak_mb, "torch" in sys.modules]))
"""

Growth = dict[int, dict[str, float]]


@pytest.fixture(scope="module")
def growth(request: pytest.FixtureRequest) -> Iterator[Growth]:
    """The table, by size; shown at the end."""
    rows: Growth = {}
    yield rows
    if request.config.getoption("benchmark_enable"):
        terminal = request.config.pluginmanager.get_plugin("terminalreporter")
        lines = [["records", *COLUMNS]]
        lines += [[f"{n:,}", *(f"{row.get(name, 0):.3g}" for name in COLUMNS)] for n, row in rows.items()]
        terminal.write_line("")
        for line in lines:
            terminal.write_line(" ".join(f"{cell:>17}" for cell in line))


@pytest.fixture(scope="module", params=SIZES, ids="{:,}".format)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    n = request.param
    root = tmp_path_factory.mktemp("scale") / str(n)
    make(root, n)
    yield Store(root)
    shutil.rmtree(root)  # pytest would keep three of them


def note(growth: Growth, store: Store, benchmark: BenchmarkFixture, **found: float) -> None:
    growth.setdefault(int(store.root.name), {}).update(found)
    benchmark.extra_info.update(found)


def best_s(benchmark: BenchmarkFixture) -> float:
    return benchmark.stats.stats.min if benchmark.stats is not None else 0.0


def test_listing_without_an_index(benchmark: BenchmarkFixture, store: Store, growth: Growth) -> None:
    path = store.root / index.NAME
    found = benchmark.pedantic(store.index, setup=lambda: path.unlink(missing_ok=True), rounds=1)
    assert len(found) == int(store.root.name)
    note(growth, store, benchmark, list_cold_s=best_s(benchmark))


def test_listing(benchmark: BenchmarkFixture, store: Store, growth: Growth) -> None:
    assert len(store.index()) == int(store.root.name)
    found = benchmark.pedantic(store.index, rounds=3)
    assert len(found) == int(store.root.name)
    size = (store.root / index.NAME).stat().st_size
    note(growth, store, benchmark, list_s=best_s(benchmark), index_mb=size / 1e6)


def test_append(benchmark: BenchmarkFixture, store: Store, growth: Growth) -> None:
    path = store.root / index.NAME
    before = path.read_bytes()
    run_id = store.run_ids()[-1]
    benchmark.pedantic(index.append, args=(store.root, run_id), rounds=20)
    added = path.read_bytes()[len(before) :]
    path.write_bytes(before)
    assert added.count(run_id.encode()) in (1, 20)  # one line a round
    note(growth, store, benchmark, append_ms=1e3 * best_s(benchmark))


@pytest.mark.parametrize("kind", ["md", "csv"])
def test_leaderboard(
    benchmark: BenchmarkFixture, store: Store, growth: Growth, tmp_path: Path, kind: str
) -> None:
    page = tmp_path / f"board.{kind}"
    command = ("leaderboard", "--store", str(store.root), "-o", str(page))
    steppe(*command)  # keeps what the optimizers declare, where that is not kept yet
    used = benchmark.pedantic(steppe, args=command, rounds=3)
    assert "cifar10-resnet8-5k" in page.read_text()
    assert used["torch"] is False
    found = {f"leaderboard_{kind}_s": best_s(benchmark)}
    if kind == "md":
        found |= {"leaderboard_cpu_s": used["cpu_s"], "leaderboard_mb": used["mb"]}
    note(growth, store, benchmark, **found)


def test_publish_one_task(benchmark: BenchmarkFixture, store: Store, growth: Growth, tmp_path: Path) -> None:
    command = ("publish", "-t", "cifar10-resnet8-5k", "--store", str(store.root), "--to", str(tmp_path))
    used = benchmark.pedantic(steppe, args=command, rounds=1)
    assert (tmp_path / "cifar10-resnet8-5k.jsonl").exists()
    note(growth, store, benchmark, publish_s=used["wall_s"], publish_mb=used["mb"])


def steppe(*arguments: str) -> dict[str, Any]:
    """Run the command in a process of its own; what it took."""
    started = time.perf_counter()
    answer = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True)
    wall_s = time.perf_counter() - started
    returned, cpu_s, mb, torch = json.loads(answer.stdout.splitlines()[-1])
    assert returned == 0, answer.stderr
    return {"wall_s": wall_s, "cpu_s": cpu_s, "mb": mb, "torch": torch}
