"""What the mirror costs the process that trains (nothing) and its pool (two short writes a run)."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from suite.entries.registry import Registry
from suite.entries.selection import Selection
from suite.track.launch import Mirror
from suite.workers.pool import run_pool
from tests.suite.runner import PLUGIN, make_run
from tests.suite.track.conftest import OFFLINE, end


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_run_tells_its_mirror_twice_however_long_it_is_and_knows_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    (spec,) = Selection([f"tiny[epochs={epochs}]"], ["sgd"], [0]).expand(Registry([PLUGIN]))
    assert spec.epochs == epochs
    folder = make_run(tmp_path, spec)
    mirror = Mirror(tmp_path, OFFLINE, {})
    assert mirror._process is not None
    assert mirror._process.stdin is not None
    pipe, write = mirror._process.stdin.fileno(), os.write
    sent: list[bytes] = []

    def counting(descriptor: int, data: bytes) -> int:
        if descriptor == pipe:
            sent.append(data)
        return write(descriptor, data)

    seen: Counter[str] = Counter()

    def on_event(event: dict[str, Any]) -> None:
        seen[event["event"]] += 1
        mirror(event)

    monkeypatch.setattr(os, "write", counting)
    try:
        result = run_pool(
            tmp_path, [spec.run_id], workers=1, plugins=[PLUGIN], on_event=on_event,
            entry="tests.suite.track.fake_run:train_and_tell",
        )  # fmt: skip
    finally:
        end(mirror)
    assert result.done == [spec.run_id], result.errors
    assert len(folder.metrics()) == epochs
    assert seen["progress"] >= epochs
    assert [json.loads(line)["ended"] for line in sent] == [False, True]
    assert all(len(line) < 4096 for line in sent)  # such a write is never half done
    loaded = json.loads((folder.path / "modules.json").read_text())
    assert "torch" in loaded
    assert not [name for name in loaded if name.split(".")[0] == "wandb" or name.startswith("suite.track")]
