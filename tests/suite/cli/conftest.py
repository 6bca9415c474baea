"""A store with finished records that no training made, and a way to call the command line."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.spec import RunSpec
from suite.store import Store
from tests.suite.runner import PLUGIN, tiny_specs

N_TEST = 50


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Answer]


def steppe(*arguments: str | Path) -> Answer:
    """Call the command line."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(argument) for argument in arguments])
    return Answer(code, out.getvalue(), err.getvalue())


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Call `steppe` in an empty working folder, without the caller's environment."""
    for name in ("STEPPE_DATA", "STEPPE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return steppe


def record_of(spec: RunSpec, n_correct: int) -> dict[str, Any]:
    """A whole record of a run that was never trained."""
    bits = ((1 << n_correct) - 1 << -N_TEST % 8).to_bytes(-(-N_TEST // 8), "big")
    estimate = {"value": 2.5, "se_probes": 0.1, "se_examples": 0.2, "n": 32, "probes": 8, "estimator": "test"}
    return {
        "record_version": 1,
        "protocol": spec.protocol,
        "run_id": spec.run_id,
        "spec": spec.to_dict(),
        "status": "completed",
        "failure": None,
        "results": {
            "test_accuracy": n_correct / N_TEST,
            "test_loss": 0.5,
            "test_accuracy_as_trained": n_correct / N_TEST,
            "validation_accuracy": 0.75,
            "validation_loss": 0.6,
            "n_test": N_TEST,
        },
        "sharpness": {
            "n": 32,
            "train_loss": 0.3,
            "train_accuracy": 0.9,
            "measures": dict.fromkeys(("lambda_max", "hessian_trace", "lpf", "lpf_difference"), estimate),
        },
        "cost": {
            "sample_gradients": 360,
            "forward_only": 100,
            "steps": 24,
            "n_train": 90,
            "declared": 1.0,
            "train_s": 36.0,
            "evaluate_s": 3.0,
            "measure_s": 1.0,
        },
        "correct": base64.b64encode(zlib.compress(bits, 9)).decode(),
        "entries": {"task": "0" * 64, "optimizer": "1" * 64},
        "data": {"split_checksum": "2" * 64, "noise_checksum": ""},
        "provenance": {
            "fingerprint": "cpu: some processor, torch 2.15.0",
            "source_tree": "3" * 64,
            "git_commit": None,
            "versions": {"torch": "2.15.0"},
            "hardware": {"cpu": "some processor"},
            "bit_exact": True,
            "attempts": 1,
        },
    }


def finish(store: Store, spec: RunSpec, n_correct: int = 40) -> None:
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    with folder.start() as attempt:
        attempt.metrics({"epoch": 1, "step": 6, "lr": 0.1, "train_loss": 1.25, "train_accuracy": 0.5})
        assert attempt.publish(record_of(spec, n_correct))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """SGD and SAM on the tiny task, three seeds each, all done."""
    made = Store(tmp_path / "store")
    for i, spec in enumerate(tiny_specs(["sgd", "sam"], [0, 1, 2])):
        finish(made, spec, 40 + i)
    return made


TINY = ("-t", "tiny", "--plugin", str(PLUGIN))
