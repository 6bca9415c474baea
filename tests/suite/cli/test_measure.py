"""`steppe measure`: the final weights give the recorded numbers again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from suite.store import RunFolder, Store
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
    assert "is queued: only a run that is done has final weights" in answer.err
    for attempt in Store(store).run(trained.run_id).path.glob("attempts/*"):
        shutil.rmtree(attempt)
    answer = cli("measure", trained.run_id, *given)
    assert answer.code == 2
    assert "keeps no final weights" in answer.err
