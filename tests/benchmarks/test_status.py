"""`steppe status` on 10,000 runs in 500 tasks, Python's start included. The promise is two seconds.

pytest tests/benchmarks/test_status.py --benchmark-enable -n0
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from slurm.profiles import Profile
from slurm.submission import Batch, SubmissionConfig, create
from suite.records.schema import to_document
from suite.store.folders import Store
from tests.suite.fake_records import make_record, make_spec

N = 10_000
FEW = 200
"""Runs where nothing is timed: the ordinary test run, which only tries the code out."""

PACK = 20
ROOT = Path(__file__).resolve().parents[2]
CONFIG = SubmissionConfig("steppe submit", Profile("test", workers=2))

SQUEUE = """#!{python}
import sys
print(open({rows!r}).read(), end="")
open({calls!r}, "a").write(" ".join(sys.argv) + chr(10))
"""


@pytest.fixture(scope="module")
def n(request: pytest.FixtureRequest) -> int:
    return N if request.config.getoption("benchmark_enable") else FEW


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["none done", "half done"])
def store(request: pytest.FixtureRequest, n: int, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs of which a share is done and the rest waits in the queue, packed into tasks of 20."""
    store = Store(tmp_path_factory.mktemp("store"))
    ids = []
    for seed in range(n):
        spec = make_spec(seed, momentum=0.9, weight_decay=5e-4, rho=0.05, schedule="cosine", warmup=0.05)
        folder = store.root / "runs" / spec.run_id
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(json.dumps(spec.to_dict(), indent=1, sort_keys=True))
        if seed < n * request.param:
            (folder / "result.json").write_bytes(to_document(make_record(spec)))
        ids.append(spec.run_id)
    submission = create(store.root, CONFIG, [[tuple(ids[i : i + PACK]) for i in range(0, n, PACK)]])
    _play(store.root, submission.batches[0])
    store.index()
    return store


def _play(root: Path, batch: Batch) -> None:
    """Put a `squeue` on a path that has every task of the batch, and notes when it is called."""
    (root / "bin").mkdir()
    lines = [f"100_{i}|{batch.job_name}|PENDING|N/A||Priority" for i in range(len(batch.packs))]
    (root / "rows").write_text("".join(f"{line}\n" for line in lines))
    script = SQUEUE.format(python=sys.executable, rows=str(root / "rows"), calls=str(root / "calls"))
    for name in ("squeue", "sacct"):
        (root / "bin" / name).write_text(script)
        (root / "bin" / name).chmod(0o755)


def test_status(benchmark: BenchmarkFixture, store: Store, n: int) -> None:
    environment = os.environ | {"PATH": f"{store.root}/bin:{os.environ['PATH']}"}
    command = [sys.executable, "-c", "import sys; from suite.cli import main; sys.exit(main())"]
    command += ["status", "--store", str(store.root)]
    calls = store.root / "calls"

    def once() -> str:
        calls.unlink(missing_ok=True)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    out = benchmark(once)
    assert f"{n} runs: " in out
    assert [Path(line.split()[0]).name for line in calls.read_text().splitlines()] == ["squeue"]
    n_queued = n - len(store.index())
    assert f"in the queue: {n_queued // PACK} pending (Priority)" in out
