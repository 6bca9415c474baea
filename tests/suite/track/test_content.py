"""What W&B is told of a run, without W&B."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suite.errors import SteppeError
from suite.spec import EntryRef, RunSpec
from suite.store import Store
from suite.track import content
from tests.suite.records import make_run, make_spec
from tests.suite.track.fake_run import done, write_rows

LONE = "\udce9"
"""Half a character, as the command line hands on a byte that is not UTF-8."""


def test_a_run_that_was_stopped_while_it_loaded_keeps_its_rows(tmp_path: Path) -> None:
    folder = make_run(Store(tmp_path), make_spec())
    with folder.start() as attempt:
        write_rows(attempt, 1, 3)
    with folder.start():
        pass
    found = content.read(folder)
    assert found is not None
    assert found.steps == [10, 20, 30]


def test_every_text_of_the_config_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = EntryRef("task", "1", {})
    spec = RunSpec(task=ref, optimizer=ref, seed=0, data="digits", data_checksum="c" * 64, epochs=1.0)
    monkeypatch.setattr(RunSpec, "to_dict", lambda _: {LONE: LONE, "list": [LONE, {"inner": LONE}]})
    config = content.settings_of(spec, content.Caption("task", "optimizer"))["config"]
    assert config == {"?": "?", "list": ["?", {"inner": "?"}]}


@pytest.mark.parametrize(
    ("part", "value"),
    [("results", {"test_accuracy": "x", "n_test": 5}), ("sharpness", {"measures": {"lambda_max": 3}})],
)
def test_an_odd_record_is_named(tmp_path: Path, part: str, value: object) -> None:
    folder = done(Store(tmp_path), make_spec())
    path = folder.path / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), part: value}))
    with pytest.raises(SteppeError, match=f"record {folder.run_id}: a field is missing or wrong"):
        content.read(folder)
