"""A run that was killed and resumed equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.records.schema import to_document
from suite.store.attempt import Attempt
from suite.store.folders import Store
from tests.suite.fake_records import stable
from tests.suite.runner import killed, make_run, tiny_specs, train

CASES = [
    "sgd",
    "adam",
    "adam[decoupled=true]",
    "sam",
    "sam[base=adam]",
    "lpf-sgd",
    "lpf-sgd[M=8,alpha=15]",
    "nso",
    "nso[k=2]",
    "adabelief",
    "adabelief[preset=0.2]",
]
TOTAL_STEPS = 24  # 90 training images in batches of 16, 4 epochs


def outcome(root: Path, run_id: str) -> tuple[bytes, bytes, dict[str, torch.Tensor]]:
    folder = Store(root).run(run_id)
    record, attempt, state = folder.record(), folder.attempt_path(), folder.last_state()
    assert record is not None
    assert attempt is not None
    assert state is not None
    return to_document(stable(record)), (attempt / "metrics.jsonl").read_bytes(), state["model"]


@pytest.mark.parametrize("optimizer", CASES)
def test_killed_three_times_and_resumed_is_bitwise_the_uninterrupted_run(
    optimizer: str, tmp_path: Path
) -> None:
    (spec,) = tiny_specs([optimizer], [3], task="tiny[measure_every=2]")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    make_run(whole, spec)
    make_run(broken, spec)
    assert train(whole, spec.run_id) == "done"
    chance = random.Random(optimizer)
    for die_at in sorted(chance.sample(range(1, TOTAL_STEPS), 3)):
        # Checkpoints at every step, at some of them, or only at the end: resuming replays 0 to all steps.
        assert killed(broken, spec.run_id, die_at, chance.choice([0.0, 0.02, 60.0])) == -9
    assert train(broken, spec.run_id) == "done"
    expected, metrics, weights = outcome(whole, spec.run_id)
    assert metrics.count(b"lambda_max_se_probes") == 2
    got, got_metrics, got_weights = outcome(broken, spec.run_id)
    assert got == expected
    assert got_metrics == metrics
    assert got_weights.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(got_weights[name], tensor), name


@pytest.mark.parametrize("optimizer", ["sam", "nso", "lpf-sgd"])
def test_killed_between_the_last_step_and_the_record(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = tiny_specs([optimizer], [3], task="tiny[epochs=1,measure_every=1]")
    records = []
    for name in ("whole", "broken"):
        root = tmp_path / name
        make_run(root, spec)
        with monkeypatch.context() as patch:
            if name == "broken":
                patch.setattr(Attempt, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    train(root, spec.run_id)
        assert train(root, spec.run_id) == "done"
        records.append(outcome(root, spec.run_id)[0])
    assert records[0] == records[1]


def test_a_stopped_run_resumes_from_its_last_step(tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sam"], [0])
    make_run(tmp_path, spec)
    asked = iter([False] * 9 + [True])
    assert train(tmp_path, spec.run_id, stop=lambda: next(asked)) == "interrupted"
    seen: list[dict[str, Any]] = []
    assert train(tmp_path, spec.run_id, progress=seen.append) == "done"
    assert train(tmp_path, spec.run_id) == "done"
    record = Store(tmp_path).run(spec.run_id).record()
    assert record is not None
    assert record.cost.sample_gradients == 2 * 90 * 4
    assert min(row["step"] for row in seen) > 9
