"""Runs of a store as they look from outside."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from suite.metric import LOSS, Description, Metric
from suite.status import progress
from suite.status.labels import labels
from suite.status.snapshot import RunStatus
from suite.status.watch import Watch
from suite.store.attempt import Attempt
from suite.store.folders import Store
from tests.suite.fake_records import finish, make_spec


def begin(store: Store, seed: int) -> Attempt:
    spec = make_spec(seed)
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    return folder.start()


def tell(attempt: Attempt, epoch: int, pace: float = 10.0, measure_s: float = 0.0) -> None:
    timing = {"epoch": epoch, "step": 6 * epoch, "train_s": pace * epoch, "evaluate_s": 0.0}
    attempt.timing({**timing, "measure_s": measure_s} if measure_s else timing)
    attempt.metrics({"epoch": epoch, "step": 6 * epoch, "train_loss": 0.5, "sample_gradients": 96 * epoch})


def by_seed(watch: Watch) -> dict[int, RunStatus]:
    return {run.row.seed: run for run in watch.look().runs}


def test_states_of_a_run_in_their_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    spec = make_spec(0)
    store.run(spec.run_id).write_spec(spec)
    watch = Watch(store)
    assert by_seed(watch)[0].row.state == "queued"
    attempt = begin(store, 0)
    assert by_seed(watch)[0].row.state == "loading"
    tell(attempt, 1)
    run = by_seed(watch)[0]
    assert (run.status, run.row.state, run.row.epoch, run.fraction) == ("running", "running", 1, 0.5)
    tell(attempt, 2)
    assert by_seed(watch)[0].row.state == "measuring"
    attempt.close()
    assert by_seed(watch)[0].status == "interrupted"
    finish(store, spec)
    assert by_seed(watch)[0].status == "done"


def test_a_new_attempt_has_what_the_old_one_did(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with begin(store, 0) as first:
        tell(first, 1)
    with begin(store, 0):
        run = by_seed(Watch(store))[0]
    assert (run.status, run.row.epoch, run.fraction) == ("running", 1, 0.5)


def test_time_left_of_a_run_and_of_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    watch = Watch(store)
    waiting = make_spec(2)
    store.run(waiting.run_id).write_spec(waiting)
    with begin(store, 0) as first, begin(store, 1):
        sight = watch.look()
        assert sight.left_s is None  # nothing was timed
        tell(first, 1, pace=1000.0)
        sight = watch.look()
        runs = {run.row.seed: run for run in sight.runs}
        assert runs[0].row.left_s == pytest.approx(1000.0, abs=60)
        assert runs[1].row.left_s is None
        # 1000 s of the first run, 2000 s of each of the others, two at a time
        assert sight.left_s == pytest.approx(2500.0, abs=60)
    assert watch.look().left_s is None  # nobody works on it


def test_time_left_of_a_run_that_measures_along_the_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with begin(store, 0) as attempt:
        tell(attempt, 1, pace=1000.0, measure_s=500.0)
        run = by_seed(Watch(store))[0]
    assert run.row.left_s == pytest.approx(1500.0, abs=60)  # one epoch of two, and as much to measure again


def test_a_damaged_run_is_a_line_and_no_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(store, make_spec(0))
    (tmp_path / "runs" / "broken").mkdir()
    torn = finish(store, make_spec(1))
    (torn.path / "result.json").write_text("{")
    sight = Watch(store).look()
    assert [run.row.seed for run in sight.runs] == [0]
    assert len(sight.damaged) == 2
    assert any("half-written or corrupt" in line for line in sight.damaged)


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with begin(store, 0) as attempt:
        tell(attempt, 1)
        with (attempt.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"note": "no epoch"}) + "\n" + '{"epoch": 2, "st')
        assert by_seed(Watch(store))[0].row.epoch == 1


def test_labels_show_what_differs() -> None:
    specs = [make_spec(optimizer=name, rho=rho) for name, rho in (("a", 1), ("a", 2), ("b", 1))]
    assert labels(specs) == [("task", "a[rho=1]"), ("task", "a[rho=2]"), ("task", "b")]
    assert labels([]) == []


ERROR = Metric("error", "lower", "m", scale="log", floor=1e-9)


@pytest.mark.parametrize("validation", ["validation", "dev", ""])
def test_the_score_is_the_primary_metric_on_the_validation_split(tmp_path: Path, validation: str) -> None:
    task = Description("smoke", 2.0, metrics=(ERROR, LOSS), validation=validation)
    with begin(Store(tmp_path), 0) as attempt:
        attempt.provenance({"task": msgspec.to_builtins(task)})
        look = {f"{validation}_error": 0.25, f"{validation}_loss": 1.5, "train_error": 0.1}
        attempt.metrics({"epoch": 1, "step": 6, **look})
        watch = Watch(Store(tmp_path))
        row = by_seed(watch)[0].row
        assert (row.score, row.metric, row.unit) == (0.25 if validation else None, "error", "m")
        attempt.metrics({"epoch": 2, "step": 12, "train_error": 0.1})  # an epoch without a look
        row = by_seed(watch)[0].row
        assert (row.epoch, row.score) == (2, 0.25 if validation else None)


def test_without_a_description_there_is_no_score(tmp_path: Path) -> None:
    with begin(Store(tmp_path), 0) as attempt:
        attempt.metrics({"epoch": 1, "step": 6, "validation_accuracy": 0.5})
        row = by_seed(Watch(Store(tmp_path)))[0].row
    assert (row.score, row.metric) == (None, "")


def test_a_description_is_read_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(progress, "description_of", lambda folder: read.append(folder))
    watch = Watch(Store(tmp_path))
    with begin(Store(tmp_path), 0) as attempt:
        for epoch in (1, 2):
            tell(attempt, epoch)
            watch.look()
    assert read == [attempt.path]
