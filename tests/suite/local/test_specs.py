"""Specs of many runs read quickly are those that are read with care."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite.errors import SteppeError
from suite.local.specs import Specs
from suite.spec import EntryRef, RunSpec
from suite.store import RunFolder, Store
from tests.suite.records import make_run, make_spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_the_same_as_read_one_by_one(store: Store) -> None:
    specs = [make_spec(seed, rho=rho) for seed in (0, 7, 10**9) for rho in (1, 1.0, True, None, '"seed": 3')]
    entry = EntryRef("o", "1", {"seed": 5})  # a parameter of that name
    specs += [replace(make_spec(seed), optimizer=entry) for seed in (3, 4)]
    read = Specs(store.root / "runs")
    for spec in specs:
        folder = make_run(store, spec)
        assert read.read(spec.run_id) == folder.spec().to_dict()


def test_those_that_share_all_but_the_seed_are_held_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [make_spec(seed) for seed in range(5)]
    for spec in specs:
        make_run(store, spec)
    monkeypatch.setattr(RunFolder, "spec", lambda _: pytest.fail("read one by one"))
    read = Specs(store.root / "runs")
    plain = [read.read(spec.run_id) for spec in specs]
    assert [one["seed"] for one in plain] == list(range(5))
    assert len({id(one["optimizer"]) for one in plain}) == 1


@pytest.mark.parametrize("seed", [1, "x"])
def test_one_that_was_edited_is_refused_also_if_it_looks_like_others(store: Store, seed: Any) -> None:
    read = Specs(store.root / "runs")
    for spec in (make_spec(0), make_spec(2)):
        make_run(store, spec)
        read.read(spec.run_id)
    path = store.run(make_spec(0).run_id).path / "spec.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": seed}, indent=1, sort_keys=True))
    with pytest.raises(SteppeError, match="corrupt"):
        read.read(make_spec(0).run_id)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seed": 0}', '"seed": 0'])
def test_one_that_is_damaged_is_refused(store: Store, content: str) -> None:
    spec: RunSpec = make_spec(0)
    (make_run(store, spec).path / "spec.json").write_text(content)
    with pytest.raises(SteppeError):
        Specs(store.root / "runs").read(spec.run_id)
