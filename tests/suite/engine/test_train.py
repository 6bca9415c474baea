"""The loop: paired seeds, cost, divergence, what a record holds."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from suite.batch import Batch
from suite.engine.context import Context
from suite.engine.record import measure_along
from suite.entries.registry import Registry
from suite.entries.selection import Selection
from suite.errors import SteppeError
from suite.objective import BatchObjective
from suite.records.schema import unpack_right
from suite.store.folders import Store
from suite.store.lines import read_lines
from tests.suite.runner import PLUGIN, make_run, tiny_specs, train

SIX = ["sgd", "adam", "sam", "lpf-sgd", "nso", "adabelief"]


def digest(*tensors: torch.Tensor) -> str:
    return hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors)).hexdigest()


def test_one_seed_gives_every_optimizer_the_same_start_batches_and_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = BatchObjective.load
    seen: list[tuple[Any, ...]] = []

    def watch(self: BatchObjective, step: int, batch: Batch) -> None:
        start = digest(*(p.detach() for p in self._model.parameters())) if step == 0 else ""
        seen.append((step, batch.digest(), start))
        load(self, step, batch)

    monkeypatch.setattr(BatchObjective, "load", watch)
    histories = {}
    for spec in tiny_specs([*SIX, "nso[k=3]", "lpf-sgd[M=8]"], [5], task="tiny[epochs=2]"):
        seen.clear()
        make_run(tmp_path, spec)
        assert train(tmp_path, spec.run_id) == "done"
        histories[spec.run_id] = list(seen)
    first, *others = histories.values()
    assert len(first) == 12
    assert all(history == first for history in others)
    (other_seed,) = tiny_specs(["sgd"], [6], task="tiny[epochs=2]")
    seen.clear()
    make_run(tmp_path, other_seed)
    train(tmp_path, other_seed.run_id)
    assert {row[1] for row in seen}.isdisjoint(row[1] for row in first)
    assert seen[0][2] != first[0][2]


@pytest.mark.parametrize(
    ("optimizer", "cost"),
    [("sgd", 1), ("adam", 1), ("sam", 2), ("lpf-sgd", 1), ("lpf-sgd[M=8]", 1), ("nso", 2), ("nso[k=2]", 4)],
)
def test_the_meter_counts_what_the_entry_declares(optimizer: str, cost: int, tmp_path: Path) -> None:
    (spec,) = tiny_specs([optimizer], [0], task="tiny[epochs=1]")
    make_run(tmp_path, spec)
    train(tmp_path, spec.run_id)
    record = Store(tmp_path).run(spec.run_id).record()
    assert record is not None
    assert record.cost.declared == cost
    # 90 training images in batches of 16: the last batch has 10, which 8 parts do not divide.
    assert record.cost.sample_gradients == record.cost.gradients == cost * 90
    assert record.cost.steps == 6


def test_a_record_holds_both_accuracies_sharpness_and_correctness(tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd"], [0])
    make_run(tmp_path, spec)
    train(tmp_path, spec.run_id)
    folder = Store(tmp_path).run(spec.run_id)
    record = folder.record()
    assert record is not None
    test = record.results["test"]
    accuracy = test.metrics["accuracy"]
    assert accuracy is not None
    assert accuracy > 0.5  # four classes: chance is a quarter
    right = int.from_bytes(unpack_right(test.right["accuracy"], test.n), "big").bit_count()
    assert right / test.n == accuracy == record.score()
    assert set(test.as_trained) == {"accuracy", "loss"}
    assert record.results["validation"].right == {}  # evidence is of what is read once
    assert record.sharpness is not None
    assert set(record.sharpness.measures) == {"lambda_max", "hessian_trace", "lpf", "lpf_difference"}
    assert record.sharpness.measures["lambda_max"].origin is None  # that of the record
    rows = folder.metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["sample_gradients"] == record.cost.sample_gradients == 4 * 90
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def untimed(value: Any) -> Any:
    """Without the identity of the run and what differs between two executions of it."""
    if isinstance(value, dict):
        varying = {"run_id", "spec", "provenance", "train_s", "evaluate_s", "measure_s"}
        return {key: untimed(inner) for key, inner in value.items() if key not in varying}
    return value


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_measures_along_training_change_nothing_and_end_at_those_of_the_record(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = BatchObjective.load
    batches: list[str] = []

    def watch(self: BatchObjective, step: int, batch: Batch) -> None:
        batches.append(batch.digest())
        load(self, step, batch)

    monkeypatch.setattr(BatchObjective, "load", watch)
    for optimizer in (*SIX, "nso[k=3]"):
        found = []
        for every in (0, 1):
            (spec,) = Selection(
                [f"tiny[measure_every={every}]"], [optimizer], [3], precision=precision
            ).expand(Registry([PLUGIN]))
            folder = make_run(tmp_path, spec)
            batches.clear()
            assert train(tmp_path, spec.run_id) == "done"
            record, state, rows = folder.record(), folder.last_state(), folder.metrics()
            assert record is not None
            assert state is not None
            weights = digest(*(value.float() for value in state["model"].values()))
            found.append((untimed(msgspec.to_builtins(record)), weights, state["meter"], [*batches], rows))
        (*plain, plain_rows), (*measured, rows) = found
        assert measured == plain
        extra = [
            {key: row[key] for key in row.keys() - other.keys()}
            for row, other in zip(rows, plain_rows, strict=True)
        ]
        assert [{key: row[key] for key in plain_rows[0]} for row in rows] == plain_rows
        assert len({one["lambda_max"] for one in extra}) == 4
        end = measured[0]["sharpness"]
        estimate = end["measures"]["lambda_max"]
        assert estimate["se_examples"] is None  # of 32 examples
        assert extra[-1] == {
            "lambda_max": estimate["value"],
            "lambda_max_se_probes": estimate["se_probes"],
            "sharpness_train_loss": end["metrics"]["loss"],
        }


def test_measuring_leaves_the_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def seen(model: nn.Module) -> list[Any]:
        gradients = [p.grad for p in model.parameters()]
        modes = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
        momenta = [getattr(m, "momentum", None) for m in model.modules()]
        tensors = [*model.parameters(), *model.buffers(), *gradients, torch.get_rng_state()]
        return [modes, momenta, *(None if t is None else digest(t.detach()) for t in tensors)]

    def watch(context: Context, model: nn.Module, *rest: Any) -> Any:
        before = seen(model)
        found = measure_along(context, model, *rest)
        assert seen(model) == before
        calls.append(model.training)
        return found

    monkeypatch.setattr("suite.engine.train.measure_along", watch)
    for optimizer in ("sam", "nso"):  # whose last pass of a step leaves the statistics alone
        (spec,) = tiny_specs([optimizer], [0], task="tiny[epochs=2,measure_every=1]")
        make_run(tmp_path, spec)
        train(tmp_path, spec.run_id)
    assert calls == [True] * 4


def test_the_task_says_when_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Registry.resolve_task
    wanted = ("lpf", "hessian_trace")
    monkeypatch.setattr(Registry, "resolve_task", lambda *a: replace(make(*a), curve_measures=wanted))
    for epochs, every, expected in ((4, 2, [2, 4]), (3, 2, [2, 3]), (2, 5, [2]), (2, 0, [])):
        (spec,) = tiny_specs(["sgd"], [0], task=f"tiny[epochs={epochs},measure_every={every}]")
        folder = make_run(tmp_path, spec)
        train(tmp_path, spec.run_id)
        rows, record = folder.metrics(), folder.record()
        assert [row["epoch"] for row in rows if "lpf" in row] == expected
        assert all({"lpf_se_examples", "hessian_trace"} <= row.keys() for row in rows if "lpf" in row)
        assert not any("lambda_max" in row or "lpf_difference" in row for row in rows)
        assert record is not None
        assert record.sharpness is not None
        measured = record.sharpness.measures
        assert [*measured] == ["lambda_max", "hessian_trace", "lpf", "lpf_difference"]
        assert not expected or rows[-1]["lpf"] == measured["lpf"].value
        timings = [*read_lines(folder.path / "attempts" / "1" / "timings.jsonl")]
        assert [row["epoch"] for row, before in zip(timings, [{"measure_s": 0.0}, *timings], strict=False)
                if row["measure_s"] > before["measure_s"]] == expected  # fmt: skip
        assert record.cost.measure_s > timings[-1]["measure_s"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"curve_measures": ("lambda",)}, "unknown measure 'lambda'; did you mean 'lambda_max'"),
        ({"curve_measures": "lpf"}, "a tuple of names, ('lpf',)"),
        ({"measure_every": -1}, "task tiny: measure_every is -1; valid: a whole number from 0 on"),
    ],
)
def test_a_task_that_asks_for_what_cannot_be_measured_is_refused_when_it_is_planned(
    change: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Registry.resolve_task
    monkeypatch.setattr(Registry, "resolve_task", lambda *a: replace(make(*a), **change))
    with pytest.raises(SteppeError, match=re.escape(said)):
        tiny_specs(["sgd"], [0])


def test_a_run_that_diverged_is_not_measured(tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd[lr=1e30]"], [0], task="tiny[measure_every=1]")
    folder = make_run(tmp_path, spec)
    assert train(tmp_path, spec.run_id) == "failed"
    assert [row for row in folder.metrics() if "lambda_max" in row] == []
    assert len(folder.metrics()) == 1


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "nso", "lpf-sgd[M=4]"])
def test_every_optimizer_has_its_statistics_reestimated(optimizer: str, tmp_path: Path) -> None:
    (spec,) = tiny_specs([optimizer], [0], task="tiny[epochs=2]")
    make_run(tmp_path, spec)
    train(tmp_path, spec.run_id)
    record = Store(tmp_path).run(spec.run_id).record()
    assert record is not None
    # validation after 2 epochs and at the end; the test set twice; 5 whole batches of 16 for BatchNorm
    assert record.cost.forward_only == 3 * 16 + 2 * 50 + 5 * 16


def test_a_diverging_run_is_recorded_as_failed(tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd[lr=1e30]"], [0])
    make_run(tmp_path, spec)
    assert train(tmp_path, spec.run_id) == "failed"
    folder = Store(tmp_path).run(spec.run_id)
    record = folder.record()
    assert record is not None
    assert record.failed
    assert record.failure is not None
    assert record.failure.kind == "diverged"
    assert record.results == {}
    assert folder.status() == "failed"
    assert train(tmp_path, spec.run_id) == "failed"
    assert len(list((folder.path / "attempts").iterdir())) == 1  # the record stands: nothing is repeated


def test_bf16_is_a_stratum_and_records_the_cosine_of_the_perturbation(tmp_path: Path) -> None:
    registry = Registry([PLUGIN])
    specs = [
        spec
        for precision in ("fp32", "bf16")
        for spec in Selection(["tiny[epochs=1]"], ["sam", "sgd"], [0], precision=precision).expand(registry)
    ]
    records = []
    for spec in specs:
        make_run(tmp_path, spec)
        train(tmp_path, spec.run_id)
        record = Store(tmp_path).run(spec.run_id).record()
        assert record is not None
        records.append(record)
    assert len({spec.run_id for spec in specs}) == 4
    sam_fp32, _, sam_bf16, sgd_bf16 = records
    assert sam_fp32.perturbation_cosine == sgd_bf16.perturbation_cosine == {}
    cosines = sam_bf16.perturbation_cosine
    assert set(cosines) == {"first", "last"}
    assert all(0.3 < value < 0.9999 for value in cosines.values())


def test_a_fractional_budget_trains_that_many_steps(tmp_path: Path) -> None:
    (spec,) = Selection(["tiny"], ["sam"], [0], view="sample-gradients", budget=0.25).expand(
        Registry([PLUGIN])
    )
    assert spec.epochs == 0.5
    make_run(tmp_path, spec)
    train(tmp_path, spec.run_id)
    record = Store(tmp_path).run(spec.run_id).record()
    assert record is not None
    assert record.cost.steps == 3


def test_the_data_must_be_what_the_spec_says(tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd"], [0])
    spec = msgspec.structs.replace(spec, data_checksum="0" * 64)
    make_run(tmp_path, spec)
    with pytest.raises(SteppeError, match="checksum"):
        train(tmp_path, spec.run_id)


@pytest.mark.parametrize("other", [{"engine": 1}, {"protocol": "fair-0.1"}])
def test_a_run_of_another_engine_or_protocol_is_not_trained(other: dict[str, Any], tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd"], [0])
    spec = msgspec.structs.replace(spec, **other)
    make_run(tmp_path, spec)
    with pytest.raises(SteppeError, match="check out code of that engine, or specify the run again"):
        train(tmp_path, spec.run_id)
