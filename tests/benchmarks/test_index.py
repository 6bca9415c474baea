"""Listing 10,000 records: what `status`, `plan` and every table wait for. The promise is one second.

pytest tests/benchmarks/test_index.py --benchmark-enable
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suite.store import Store
from tests.suite.records import make_spec

N = 10_000
FEW = 200
"""Records where nothing is timed: the ordinary test run, which only tries the code out."""


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of records as big as real ones: 10,000 test examples, four measures."""
    n = N if request.config.getoption("benchmark_enable") else FEW
    store = Store(tmp_path_factory.mktemp("store"))
    for seed in range(n):
        spec = make_spec(seed, momentum=0.9, weight_decay=5e-4, rho=0.05, schedule="cosine", warmup=0.05)
        folder = store.root / "runs" / spec.run_id
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(json.dumps(spec.to_dict()))
        (folder / "result.json").write_text(json.dumps(record(spec.run_id, spec.to_dict(), seed)))
    assert len(store.index()) == n
    return store


def record(run_id: str, spec: dict[str, Any], seed: int) -> dict[str, Any]:
    value = 0.123456789 + seed / N
    estimate = {"value": value, "se_probes": value, "se_examples": value, "n": 1000, "probes": 10}
    results = [f"{part}_{what}" for part in ("test", "validation", "train") for what in ("accuracy", "loss")]
    measures = ("lambda_max", "hessian_trace", "lpf", "lpf_difference")
    return {
        "record_version": 1,
        "run_id": run_id,
        "spec": spec,
        "status": "completed",
        "failure": None,
        "results": dict.fromkeys(results, value),
        "sharpness": {"n": 1000, "train_loss": value, "measures": dict.fromkeys(measures, estimate)},
        "cost": dict.fromkeys(("sample_gradients", "forward_only", "steps", "train_s", "measure_s"), value),
        "correct": "A" * 1700,
        "entries": {"task": "a" * 64, "optimizer": "b" * 64},
        "data": {"split_checksum": "c" * 64, "noise_checksum": ""},
        "provenance": {"fingerprint": "f" * 80, "versions": {str(i): "1.2.3" for i in range(12)}},
    }


def test_list_with_a_sound_index(benchmark: BenchmarkFixture, store: Store) -> None:
    assert len(benchmark(store.index)) == len(store.run_ids())


def test_list_without_an_index(benchmark: BenchmarkFixture, store: Store) -> None:
    def lose() -> None:
        (store.root / "index.jsonl").unlink(missing_ok=True)

    assert len(benchmark.pedantic(store.index, setup=lose, rounds=3)) == len(store.run_ids())
