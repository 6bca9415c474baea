"""The loop: paired seeds, cost, divergence, what a record holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.errors import SteppeError
from suite.objective import BatchObjective
from suite.record import pack_correct, unpack_correct
from suite.registry import Registry
from suite.select import expand
from suite.store import Store

from .runner import PLUGIN, make_run, tiny_specs, train

SIX = ["sgd", "adam", "sam", "lpf-sgd", "nso", "adabelief"]


def digest(*tensors: torch.Tensor) -> str:
    return hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors)).hexdigest()


def test_one_seed_gives_every_optimizer_the_same_start_batches_and_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = BatchObjective.load
    seen: list[tuple[Any, ...]] = []

    def watch(self: BatchObjective, step: int, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        start = digest(*(p.detach() for p in self._model.parameters())) if step == 0 else ""
        seen.append((step, digest(inputs, targets), start))
        load(self, step, inputs, targets)

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
    record = Store(tmp_path).run(spec.run_id).result()
    assert record is not None
    assert record["cost"]["declared"] == cost
    # 90 training images in batches of 16: the last batch has 10, which 8 parts do not divide.
    assert record["cost"]["sample_gradients"] == cost * 90
    assert record["cost"]["steps"] == 6


def test_a_record_holds_both_accuracies_sharpness_and_correctness(tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd"], [0])
    make_run(tmp_path, spec)
    train(tmp_path, spec.run_id)
    folder = Store(tmp_path).run(spec.run_id)
    record = folder.result()
    assert record is not None
    results = record["results"]
    assert results["test_accuracy"] > 0.5  # four classes: chance is a quarter
    correct = unpack_correct(record["correct"], results["n_test"])
    assert float(correct.double().mean()) == results["test_accuracy"]
    assert "test_accuracy_as_trained" in results
    assert set(record["sharpness"]["measures"]) == {"lambda_max", "hessian_trace", "lpf", "lpf_difference"}
    rows = folder.metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["sample_gradients"] == record["cost"]["sample_gradients"] == 4 * 90
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "nso", "lpf-sgd[M=4]"])
def test_every_optimizer_has_its_statistics_reestimated(optimizer: str, tmp_path: Path) -> None:
    (spec,) = tiny_specs([optimizer], [0], task="tiny[epochs=2]")
    make_run(tmp_path, spec)
    train(tmp_path, spec.run_id)
    record = Store(tmp_path).run(spec.run_id).result()
    assert record is not None
    # validation after 2 epochs and at the end; the test set twice; 5 whole batches of 16 for BatchNorm
    assert record["cost"]["forward_only"] == 3 * 16 + 2 * 50 + 5 * 16


def test_a_diverging_run_is_recorded_as_failed(tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd[lr=1e30]"], [0])
    make_run(tmp_path, spec)
    assert train(tmp_path, spec.run_id) == "failed"
    folder = Store(tmp_path).run(spec.run_id)
    record = folder.result()
    assert record is not None
    assert record["status"] == "failed"
    assert record["failure"]["kind"] == "diverged"
    assert record["results"] == {}
    assert folder.status() == "failed"
    assert train(tmp_path, spec.run_id) == "failed"
    assert len(list((folder.path / "attempts").iterdir())) == 1  # the record stands: nothing is repeated


def test_bf16_is_a_stratum_and_records_the_cosine_of_the_perturbation(tmp_path: Path) -> None:
    registry = Registry([PLUGIN])
    specs = [
        spec
        for precision in ("fp32", "bf16")
        for spec in expand(registry, ["tiny[epochs=1]"], ["sam", "sgd"], [0], precision=precision)
    ]
    records = []
    for spec in specs:
        make_run(tmp_path, spec)
        train(tmp_path, spec.run_id)
        records.append(Store(tmp_path).run(spec.run_id).result())
    assert len({spec.run_id for spec in specs}) == 4
    sam_fp32, _, sam_bf16, sgd_bf16 = records
    assert "perturbation_cosine" not in sam_fp32
    assert "perturbation_cosine" not in sgd_bf16
    cosines = sam_bf16["perturbation_cosine"]
    assert set(cosines) == {"first", "last"}
    assert all(0.3 < value < 0.9999 for value in cosines.values())


def test_a_fractional_budget_trains_that_many_steps(tmp_path: Path) -> None:
    (spec,) = expand(Registry([PLUGIN]), ["tiny"], ["sam"], [0], view="sample-gradients", budget=0.25)
    assert spec.epochs == 0.5
    make_run(tmp_path, spec)
    train(tmp_path, spec.run_id)
    record = Store(tmp_path).run(spec.run_id).result()
    assert record is not None
    assert record["cost"]["steps"] == 3


def test_the_data_must_be_what_the_spec_says(tmp_path: Path) -> None:
    from dataclasses import replace

    (spec,) = tiny_specs(["sgd"], [0])
    spec = replace(spec, data_checksum="0" * 64)
    make_run(tmp_path, spec)
    with pytest.raises(SteppeError, match="checksum"):
        train(tmp_path, spec.run_id)


def test_correctness_survives_packing() -> None:
    bits = torch.rand(1017, generator=torch.Generator().manual_seed(0)) < 0.7
    assert torch.equal(unpack_correct(pack_correct(bits), 1017), bits)
