"""`steppe validate` and `steppe leaderboard --records` accept and refuse the same, in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from suite.cli import validate
from suite.records.schema import to_line
from suite.spec import EntryRef
from suite.store.folders import Store
from tests.suite.cli.conftest import Cli, QueueState
from tests.suite.cli.finished import stored, tiny_records
from tests.suite.runner import PLUGIN

NAME = "results/records/tiny.jsonl"
HINT = "restore the line, or run it again and publish that"

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stored(tmp_path / "store", tiny_records())


def rewritten(cli: Cli, store: Store, changes: dict[int, Change]) -> Path:
    """Publish the store, then change some records, by their place in the file."""
    assert cli("publish", "--store", store.root).code == 0
    path = Path(NAME)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for at, change in changes.items():
        change(records[at])
    path.write_bytes(b"".join(msgspec.json.encode(record, order="sorted") + b"\n" for record in records))
    return path


def leaderboard(cli: Cli) -> QueueState:
    return cli("leaderboard", "--records", NAME, "--plugin", PLUGIN, "--view", "epochs", "-o", "board.md")


UNSOUND: dict[str, tuple[Change, str]] = {
    "percent": (
        lambda one: one["results"]["test"]["metrics"].update(accuracy=97.5),
        "results.test.metrics.accuracy is 97.5; valid: a fraction from 0 to 1",
    ),
    "text": (
        lambda one: one["results"]["test"]["metrics"].update(accuracy="0.5"),
        "results.test.metrics.accuracy is '0.5'; valid: float | null",
    ),
    "other examples": (
        lambda one: one["results"]["test"]["metrics"].update(accuracy=0.5),
        "results.test.metrics.accuracy is 0.5, but {n} of 50 stored examples are right",
    ),
    "no whole number": (
        lambda one: one["results"]["validation"]["metrics"].update(accuracy=0.755),
        "results.validation.metrics.accuracy is 0.755, which is no whole number of 16 examples",
    ),
    "lpf": (
        lambda one: one["sharpness"]["measures"]["lpf"].update(value=3.5),
        "sharpness: lpf 3.5 less lpf_difference 2.2 is not the loss 0.3 of the same examples",
    ),
    "parts of the cost": (
        lambda one: one["cost"].update(losses=30),
        "cost.sample_gradients is {cost:g}, its parts add up to {more:g}",
    ),
    "declared cost": (
        lambda one: one["cost"].update(declared=2.0),
        "cost.sample_gradients is {cost:g}, but {epochs:g} epochs of 90 examples at 2 each are {twice:g}",
    ),
    "missing": (lambda one: one.pop("cost"), "cost is missing"),
    "unknown": (
        lambda one: one["provenance"]["origin"].update(host="node7"),
        "provenance.origin.host is no field; valid: source_tree, git_commit, fingerprint",
    ),
    "out of range": (lambda one: one["cost"].update(n_train=0), "cost.n_train is 0; valid: int >= 1"),
    "retired": (
        lambda one: one.update(record_version=1),
        "record_version is 1, which is retired; valid: 2",
    ),
    "no version": (lambda one: one.pop("record_version"), "record_version is missing; valid: 2"),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_both_commands_refuse_alike(cli: Cli, store: Store, kind: str) -> None:
    change, says = UNSOUND[kind]
    path = rewritten(cli, store, {2: change})
    whole = {record.run_id: record for record in tiny_records()}
    record = whole[json.loads(path.read_text().splitlines()[2])["run_id"]]
    cost = record.cost.sample_gradients
    accuracy = record.results["test"].metrics["accuracy"] or 0.0
    said = says.format(
        n=round(50 * accuracy), cost=cost, more=cost + 10, twice=2 * cost, epochs=record.spec.epochs
    )
    for answer in (cli("validate"), leaderboard(cli)):
        assert answer.code == 2
        assert answer.err == f"steppe: error: {NAME}:3: {said}: {HINT}\n"
    assert not Path("board.md").exists()


def test_both_commands_accept_alike(cli: Cli, store: Store) -> None:
    rewritten(cli, store, {})
    assert cli("validate").code == 0
    assert leaderboard(cli).code == 0
    assert "| sam " in Path("board.md").read_text()


@pytest.mark.parametrize("kind", ["task", "optimizer"])
@pytest.mark.parametrize("params", [{}, {"lr": -1.0}, {"unknown": 1}, {"epochs": "many"}])
def test_both_commands_accept_runs_of_entries_that_are_others_now(
    cli: Cli, kind: str, params: dict[str, Any]
) -> None:
    for base in ({}, dict(getattr(tiny_records()[0].spec, kind).params)):
        one = tiny_records()[0]
        entry: EntryRef = replace(getattr(one.spec, kind), params={**base, **params})
        spec = replace(one.spec, **{kind: entry})
        path = Path(NAME)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_line(replace(one, spec=spec, run_id=spec.run_id)))
        for answer in (cli("validate"), leaderboard(cli)):
            assert (answer.code, answer.err) == (0, "")


def test_each_unsound_record_is_named_on_a_line_of_its_own(cli: Cli, store: Store) -> None:
    rewritten(cli, store, {1: UNSOUND["out of range"][0], 3: UNSOUND["missing"][0]})
    answer = cli("validate")
    problems = [f"{NAME}:2: cost.n_train is 0; valid: int >= 1: {HINT}", f"{NAME}:4: cost is missing: {HINT}"]
    assert (answer.code, answer.lines[0]) == (2, f"{NAME}: 4 records are sound")
    assert answer.err.splitlines() == [f"steppe: error: {problem}" for problem in problems]
    assert cli("validate", "--json").json == {
        "sound": {NAME: 4},
        "proven": {NAME: ["test.accuracy"]},
        "claimed": {NAME: ["test.loss", "validation.accuracy", "validation.loss"]},
        "problems": problems,
    }
    also = f" (and 1 more: `steppe validate {NAME}` lists them)"
    assert leaderboard(cli).err == f"steppe: error: {problems[0]}{also}\n"


def test_what_is_proven_is_told_from_what_is_claimed(cli: Cli, store: Store) -> None:
    cli("publish", "--store", store.root)
    assert cli("validate").lines == [
        f"{NAME}: 6 records are sound",
        "  recounted from stored examples: test.accuracy",
        "  claimed, and within what can be: test.loss, validation.accuracy, validation.loss, measures, "
        "seconds",
        "  6 name code that this clone does not have: their origin is claimed",
    ]


def test_what_was_compared_with_commits_is_told(
    cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "checkable", lambda origin: True)
    monkeypatch.setattr(validate, "compared", lambda record: record.spec.seed == 0)
    cli("publish", "--store", store.root)
    assert cli("validate").lines[-2:] == [
        "  6 name commits of this clone, and agree with these in what can be compared",
        "  2 of them in all: source tree, protocol, engine, measures and code of the entries",
    ]


def test_an_empty_file_is_refused_by_both(cli: Cli) -> None:
    path = Path(NAME)
    path.parent.mkdir(parents=True)
    path.touch()
    for answer in (cli("validate"), leaderboard(cli)):
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert f"{NAME} holds no record: delete it, or name a file" in answer.err


def test_without_a_file_there_is_nothing_to_validate(cli: Cli) -> None:
    answer = cli("validate")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "write them with `steppe publish`" in answer.err
