"""Tasks that are no classification of images, each a plugin of one file, through every command.

Low-rank matrix sensing judged by its error of recovery, full-batch descent at the edge of stability with a
profile, contrastive pairs judged by retrieval on three test sets, and a language model judged by perplexity.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from suite.entries.registry import Registry
from suite.entries.selection import Selection
from suite.records import schema
from suite.store.folders import RunFolder, Store
from tests.suite.cli.conftest import Printed, steppe
from tests.suite.runner import killed, make_run

PLUGINS = Path(__file__).parents[2] / "plugins"


@dataclass(frozen=True)
class Foreign:
    """A task and what must be seen of it."""

    file: str
    name: str
    rivals: str
    """Another optimizer, at settings that suit the task."""
    title: str
    """The column that rows are compared by."""
    measure: str
    die_at: int
    """The step in which the kill strikes; some checkpoints are written by then."""
    facts: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()

    @property
    def plugin(self) -> Path:
        return PLUGINS / f"{self.file}.py"


SENSING = Foreign("sensing", "matrix-sensing", "sam", "test recovery error", "lambda_max", 15)
PAIRS = Foreign("pairs", "pairs", "sam", "test recall 1, %", "lpf", 12)
EDGE = Foreign(
    "edge", "edge", "sgd[momentum=0,weight_decay=0]", "training loss", "lambda_max", 7,
    facts=("rises",), profiles=("interpolation",),
)  # fmt: skip
TOKENS = Foreign("tokens", "tokens", "adam", "test perplexity", "lambda_max", 10)


@dataclass(frozen=True)
class Made:
    """A task's store after `steppe run`."""

    task: Foreign
    root: Path
    said: Printed

    def steppe(self, *arguments: str | Path, plugin: bool = True) -> Printed:
        answer = steppe(*arguments, "--store", self.root, *(("--plugin", self.task.plugin) if plugin else ()))
        assert answer.code == 0, answer.err
        return answer

    @property
    def run_ids(self) -> list[str]:
        return Store(self.root).run_ids()


def weights(folder: RunFolder) -> dict[str, Tensor]:
    state = folder.last_state()
    assert state is not None
    found: dict[str, Tensor] = state["model"]
    return found


@pytest.fixture(scope="module", params=[SENSING, PAIRS, EDGE, TOKENS], ids=lambda task: task.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Two seeds of SGD and one rival, run by the pool."""
    task, root = request.param, tmp_path_factory.mktemp(request.param.file) / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STEPPE_STORE", raising=False)
        patch.delenv("STEPPE_DATA", raising=False)
        some = ("-t", task.name, "-o", f"sgd,{task.rivals}", "-s", "0-1", "--wandb", "off")
        answer = steppe("run", *some, "--store", root, "--plugin", task.plugin)
        assert answer.code == 0, answer.err
        yield Made(task, root, answer)


def test_the_battery_finds_every_promise_kept(made: Made) -> None:
    answer = made.steppe("check", "task", made.task.name, "--json")
    checks = json.loads(answer.out)["checks"]
    assert checks
    assert all(check["ok"] for check in checks), answer.out


def test_a_plan_counts_and_prices_it(made: Made) -> None:
    answer = made.steppe("plan", "-t", made.task.name, "-o", "sgd", "-s", "0-3")
    assert "4 runs" in answer.out
    assert "2 done" in answer.out
    assert "2 to do" in answer.out


def test_the_pool_runs_it_and_says_how_it_goes(made: Made) -> None:
    assert "4 done" in made.said.err + made.said.out
    assert "nan" not in (made.said.err + made.said.out).lower()


def test_a_killed_run_ends_with_the_same_bytes(made: Made, tmp_path: Path) -> None:
    (spec,) = Selection([made.task.name], ["sgd"], [0]).expand(Registry([made.task.plugin]))
    folder = make_run(tmp_path, spec)
    assert killed(tmp_path, spec.run_id, made.task.die_at, 0.0, made.task.plugin) == -9
    assert folder.record() is None
    again = ("run", "-t", made.task.name, "-o", "sgd", "-s", "0", "--store", tmp_path)
    assert steppe(*again, "--plugin", made.task.plugin).code == 0
    whole = Store(made.root).run(spec.run_id)
    one, other = folder.record(), whole.record()
    assert one is not None
    assert other is not None
    assert one.provenance.attempts == 2
    for part in ("results", "facts", "profiles", "sharpness", "digests", "data"):
        assert getattr(one, part) == getattr(other, part), part
    ours, theirs = (weights(run) for run in (folder, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_is_measured_again(made: Made) -> None:
    answer = made.steppe("measure", made.run_ids[0], "-m", made.task.measure)
    assert made.task.measure in answer.out


def test_status_and_show_tell_its_metrics(made: Made) -> None:
    assert "4 done" in made.steppe("status", plugin=False).out
    record = Store(made.root).run(made.run_ids[0]).record()
    assert record is not None
    shown = made.steppe("show", made.run_ids[0]).out
    for metric in record.task.metrics:
        assert metric.name.replace("_", " ") in shown or metric.name in shown
    for name in (*made.task.facts, *made.task.profiles):
        assert name in shown
    found = json.loads(made.steppe("show", made.run_ids[0], "--json").out)
    assert set(found["record"]["results"] if "record" in found else found["results"]) == set(record.results)


@pytest.mark.parametrize("kind", ["md", "csv", "tex"])
def test_leaderboards_are_by_its_metric(made: Made, tmp_path: Path, kind: str) -> None:
    page = tmp_path / f"board.{kind}"
    made.steppe("leaderboard", "-o", page)
    content = page.read_text()
    title = made.task.title
    if kind == "csv":
        title = title.removesuffix(", %").replace("training", "train").replace(" ", "_")
    elif kind == "tex":
        title = title.replace("%", r"\%")
    assert title in content
    assert made.task.name in content
    for fact in made.task.facts:
        assert fact in content
    if made.task is not PAIRS:
        assert "accuracy" not in re.sub("token accuracy|token_accuracy", "", content)


def test_published_records_are_sound_and_make_the_same_table(made: Made, tmp_path: Path) -> None:
    made.steppe("publish", "--to", tmp_path, plugin=False)
    (published,) = tmp_path.glob("*.jsonl")
    assert len(published.read_bytes().splitlines()) == 4
    assert steppe("validate", published).code == 0
    tables = []
    for source in (("--store", made.root), ("--records", published)):
        answer = steppe("leaderboard", *source, "--plugin", made.task.plugin)
        assert answer.code == 0, answer.err
        tables.append(answer.out.partition("This page is made by")[0])
    assert tables[0] == tables[1]


def test_published_runs_are_not_run_again(made: Made, tmp_path: Path) -> None:
    made.steppe("publish", "--to", tmp_path, plugin=False)
    (published,) = tmp_path.glob("*.jsonl")
    some = ("-t", made.task.name, "-o", "sgd", "-s", "0-1", "--plugin", made.task.plugin)
    answer = steppe("run", *some, "--store", tmp_path / "another", "--records", published)
    assert answer.code == 0, answer.err
    assert "2 done" in answer.out + answer.err
    assert not Store(tmp_path / "another").run_ids()


def test_records_say_all_that_a_table_needs(made: Made) -> None:
    """Without the plugin a table is the same, except for labels that need its defaults."""
    answer = made.steppe("leaderboard", plugin=False)
    assert made.task.title in answer.out
    for run_id in made.run_ids:
        record = Store(made.root).run(run_id).record()
        assert record is not None
        assert record.score() is not None
        assert schema.read(schema.to_line(record), "a line", "read it") == record


def test_wandb_gets_its_columns(made: Made) -> None:
    made.steppe("wandb", "sync", "--wandb", "offline")
    record = Store(made.root).run(made.run_ids[0]).record()
    assert record is not None
    (run,) = (made.root / "wandb" / record.run_id).rglob("*.wandb")
    content = run.read_bytes()
    for metric in record.task.metrics:
        assert f"{record.task.scored}/{metric.name}".encode() in content
    for column in record.task.columns:
        assert column.name.encode() in content
