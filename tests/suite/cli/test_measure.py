"""`steppe measure`: the final weights give the recorded numbers again."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from suite import sharpness
from suite.errors import SteppeError
from suite.records.schema import Estimate, Record
from suite.sharpness import Point
from suite.store.folders import RunFolder, Store
from tests.suite.cli.conftest import Cli
from tests.suite.runner import PLUGIN, make_run, tiny_specs, train


@pytest.fixture
def trained(tmp_path: Path) -> RunFolder:
    spec = tiny_specs(["sgd"], [0], "tiny[epochs=1]")[0]
    folder = make_run(tmp_path / "store", spec)
    assert train(tmp_path / "store", spec.run_id) == "done"
    return folder


def test_measuring_again_gives_the_recorded_numbers(cli: Cli, trained: RunFolder) -> None:
    given = ("measure", trained.run_id[:8], "--plugin", PLUGIN, "--store", trained.path.parents[1])
    answer = cli(*given, "-m", "lambda_max", "-m", "lpf", "--json")
    assert answer.code == 0, answer.err
    # The same weights, statistics, examples and probes on one thread: equal, not close.
    for name in ("lambda_max", "lpf"):
        assert answer.json["measured"][name] == answer.json["recorded"][name]
    assert "hessian_trace" in cli(*given).out
    fewer = cli(*given, "-m", "lpf", "--examples", "8", "--json").json
    assert fewer["measured"]["lpf"]["n"] == 8


def test_what_cannot_be_measured_is_one_line(cli: Cli, trained: RunFolder) -> None:
    store = trained.path.parents[1]
    given = ("--plugin", PLUGIN, "--store", store)
    answer = cli("measure", trained.run_id, "-m", "lambda_min", *given)
    assert answer.code == 2
    assert "unknown measure 'lambda_min'; did you mean 'lambda_max'?" in answer.err
    queued = make_run(store, tiny_specs(["sgd"], [1])[0])
    answer = cli("measure", queued.run_id, *given)
    assert answer.code == 2
    assert "is queued: only a finished run has final weights" in answer.err
    for attempt in Store(store).run(trained.run_id).path.glob("attempts/*"):
        shutil.rmtree(attempt)
    answer = cli("measure", trained.run_id, *given)
    assert answer.code == 2
    assert "keeps no final weights" in answer.err


def test_what_others_wrote_while_it_measured_stays(
    cli: Cli, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = sharpness.measure

    def slow(point: Point, names: list[str]) -> dict[str, Estimate]:
        trained.amend_record(lambda now: with_value(now, "lpf", 9.0))
        return measure(point, names)

    monkeypatch.setattr(sharpness, "measure", slow)
    given = ("measure", trained.run_id, "--plugin", PLUGIN, "--store", trained.path.parents[1])
    answer = cli(*given, "-m", "lambda_max", "--write")
    assert answer.code == 0, answer.err
    record = trained.record()
    assert record is not None
    assert record.sharpness is not None
    assert record.sharpness.measures["lpf"].value == 9.0
    assert record.sharpness.measures["lambda_max"].origin is not None


def with_value(record: Record, measure: str, value: float) -> Record:
    assert record.sharpness is not None
    measures = record.sharpness.measures
    measures = {**measures, measure: replace(measures[measure], value=value)}
    return replace(record, sharpness=replace(record.sharpness, measures=measures))


def test_a_record_is_amended_by_one_at_a_time(trained: RunFolder) -> None:
    def slowly(record: Record) -> Record:
        time.sleep(0.05)
        return replace(record, facts={**record.facts, f"fact_{len(record.facts)}": 1.0})

    with ThreadPoolExecutor() as pool:
        list(pool.map(trained.amend_record, [slowly] * 3))
    record = trained.record()
    assert record is not None
    assert len(record.facts) == 3


def test_a_record_that_is_gone_cannot_be_amended(trained: RunFolder) -> None:
    (trained.path / "result.json").unlink()
    with pytest.raises(SteppeError, match="has no record any more: give the same `steppe run` again"):
        trained.amend_record(lambda record: record)
