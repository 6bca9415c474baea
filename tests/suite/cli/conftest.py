"""A store with finished records that no training made, and a way to call the command line."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suite.cli import main
from suite.records.schema import Record
from suite.spec import RunSpec
from suite.store.folders import Store
from tests.suite.fake_records import N_TEST, TASK, make_record
from tests.suite.runner import PLUGIN, tiny_specs


@dataclass(frozen=True)
class Printed:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Printed]


def steppe(*arguments: str | Path) -> Printed:
    """Call the command line."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(argument) for argument in arguments])
    return Printed(code, out.getvalue(), err.getvalue())


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Call `steppe` in an empty working folder, without the caller's environment."""
    for name in ("STEPPE_DATA", "STEPPE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return steppe


def record_of(spec: RunSpec, n_correct: int) -> Record:
    """A whole record of a run that was never trained."""
    task = replace(TASK, epochs=spec.epochs)
    return make_record(spec, accuracy=n_correct / N_TEST, n=N_TEST, task=task)


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
